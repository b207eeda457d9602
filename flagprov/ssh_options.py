"""OpenSSH's options as we see them: which we honour, which do not matter to us, and which we must refuse."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from flagprov.errors import InventoryError

HONOURED = frozenset(
    {
        "addressfamily",
        "bindaddress",
        "ciphers",
        "configfile",  # -F
        "connecttimeout",
        "globalknownhostsfile",
        "hostkeyalgorithms",
        "hostkeyalias",
        "hostname",
        "identitiesonly",
        "identityagent",
        "identityfile",
        "kexalgorithms",
        "macs",
        "passwordauthentication",
        "port",
        "preferredauthentications",
        "proxycommand",
        "proxyjump",
        "pubkeyauthentication",
        "stricthostkeychecking",
        "user",
        "userknownhostsfile",
    }
)
# Options that change neither how a host is reached nor whom we trust.
HARMLESS = frozenset(
    {
        "addkeystoagent",
        "batchmode",
        "canonicaldomains",
        "canonicalizefallbacklocal",
        "canonicalizehostname",
        "canonicalizemaxdots",
        "canonicalizepermittedcnames",
        "casignaturealgorithms",
        "challengeresponseauthentication",
        "checkhostip",
        "clearallforwardings",
        "compression",
        "connectionattempts",
        "controlmaster",
        "controlpath",
        "controlpersist",
        "enableescapecommandline",
        "enablesshkeysign",
        "escapechar",
        "exitonforwardfailure",
        "fingerprinthash",
        "forkafterauthentication",
        "forwardagent",
        "forwardx11",
        "forwardx11timeout",
        "forwardx11trusted",
        "gssapiauthentication",
        "gssapidelegatecredentials",
        "gssapikexalgorithms",
        "gssapikeyexchange",
        "gssapirenewalforcesrekey",
        "gssapitrustdns",
        "hashknownhosts",
        "ignoreunknown",
        "ipqos",
        "kbdinteractiveauthentication",
        "loglevel",
        "logverbose",
        "numberofpasswordprompts",
        "obscurekeystroketiming",
        "permitlocalcommand",
        "pubkeyacceptedalgorithms",
        "pubkeyacceptedkeytypes",
        "rekeylimit",
        "requesttty",
        "requiredrsasize",
        "sendenv",
        "serveralivecountmax",
        "serveraliveinterval",
        "setenv",
        "stdinnull",
        "streamlocalbindmask",
        "streamlocalbindunlink",
        "syslogfacility",
        "tcpkeepalive",
        "updatehostkeys",
        "usekeychain",
        "visualhostkey",
        "warnweakcrypto",
        "xauthlocation",
    }
)
# What ssh_config may not say for a host of ours: option -> the values that mean "not used".
_REFUSED_IN_CONFIG: Mapping[str, frozenset[str]] = {
    "bindinterface": frozenset({"none"}),
    "certificatefile": frozenset({"none"}),
    "knownhostscommand": frozenset({"none"}),
    "pkcs11provider": frozenset({"none"}),
    "proxyusefdpass": frozenset({"no", "false"}),
    "remotecommand": frozenset({"none"}),
    "revokedhostkeys": frozenset({"none"}),
    "tunnel": frozenset({"no", "false"}),
}
# ssh's option -> our name for it, and what our SSH client speaks of it.
_NIST = "ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 ecdsa-sha2-nistp521"
_SPOKEN = {
    "kexalgorithms": "kex curve25519-sha256@libssh.org ecdh-sha2-nistp256 ecdh-sha2-nistp384 "
    "ecdh-sha2-nistp521 diffie-hellman-group16-sha512 diffie-hellman-group-exchange-sha256 "
    "diffie-hellman-group14-sha256",
    "ciphers": "ciphers aes128-ctr aes192-ctr aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com",
    "macs": "macs hmac-sha2-256 hmac-sha2-512 hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com",
    "hostkeyalgorithms": f"keys ssh-ed25519 {_NIST} rsa-sha2-512 rsa-sha2-256",
}
ALGORITHMS: Mapping[str, tuple[str, frozenset[str]]] = {
    option: (names.split()[0], frozenset(names.split()[1:])) for option, names in _SPOKEN.items()
}
_FLAGS = {
    **dict.fromkeys("46", "addressfamily"),
    **dict.fromkeys("Aa", "forwardagent"),
    **dict.fromkeys("kK", "gssapiauthentication"),
    **dict.fromkeys("qvE", "loglevel"),
    **dict.fromkeys("tT", "requesttty"),
    **dict.fromkeys("xXY", "forwardx11"),
    "B": "bindinterface",
    "C": "compression",
    "F": "configfile",
    "I": "pkcs11provider",
    "J": "proxyjump",
    "M": "controlmaster",
    "S": "controlpath",
    "b": "bindaddress",
    "c": "ciphers",
    "e": "escapechar",
    "i": "identityfile",
    "l": "user",
    "m": "macs",
    "n": "stdinnull",
    "p": "port",
    "y": "syslogfacility",
}
_FLAGS_WITH_VALUE = frozenset("BDEFIJLOQRSWbceilmopw")
TRUST = "Remove it and run `flagprov trust INVENTORY` once: host keys are always checked."


def split_args(host: str, variable: str, text: str) -> tuple[str, ...]:
    """The words of an option like ansible_ssh_common_args."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InventoryError(
            f"{host}: {variable}: {str(error).lower()} in {text!r}", remedy="Quote it as in a shell."
        ) from error


def named_options(host: str, variable: str, words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(option in lower case, its value, how it is written) for ssh command line words."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            raise InventoryError(f"{host}: {variable}: {word!r} is not an option of ssh")
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            value = ""
            if letter in _FLAGS_WITH_VALUE:
                value, letters = letters or next(rest, ""), ""
                if not value:
                    raise InventoryError(f"{host}: {variable}: -{letter} lacks its value")
            if letter == "o":
                name, _, setting = value.replace("=", " ", 1).strip().partition(" ")
                yield name.lower(), setting.strip(" =").strip('"'), f"{name}={setting.strip(' =')}"
            else:
                yield _FLAGS.get(letter, f"-{letter}"), value, f"-{letter} {value}".strip()


def check_args(host: str, variable: str, words: Sequence[str]) -> None:
    """Refuses what we cannot honour."""
    for name, value, written in named_options(host, variable, words):
        if name not in HONOURED and name not in HARMLESS:
            raise InventoryError(
                f"{host}: {variable}: flagprov cannot honour the SSH option {written}",
                remedy="Remove it, or say it in another way (ProxyJump, HostName, IdentityFile).",
            )
        _check_trust(host, variable, name, value, written, accepted=("yes", "ask", "true"))


def check_config(host: str, options: Mapping[str, Sequence[str]]) -> None:
    """Refuses what ssh_config says for this host and we cannot honour."""
    for name, values in options.items():
        for value in values:
            harmless = _REFUSED_IN_CONFIG.get(name)
            if harmless is not None and value.lower() not in harmless:
                raise InventoryError(
                    f"{host}: ssh_config: flagprov cannot honour the SSH option {name} {value}",
                    remedy=f"Take {name} out for this host (a Host or Match block without it).",
                )
            accepted = ("yes", "ask", "true", "accept-new")  # accept-new: we are stricter, nothing is lost
            _check_trust(host, "ssh_config", name, value, f"{name} {value}", accepted=accepted)


def _check_trust(
    host: str, place: str, name: str, value: str, written: str, accepted: tuple[str, ...]
) -> None:
    if name == "stricthostkeychecking" and value.lower() not in accepted:
        raise InventoryError(f"{host}: {place}: {written} weakens the check of host keys", remedy=TRUST)
    if name.endswith("knownhostsfile") and "/dev/null" in value.split():
        raise InventoryError(f"{host}: {place}: {written} throws host keys away", remedy=TRUST)
    squeezed = value.lower().replace(" ", "").replace("=", "").replace('"', "")
    if name == "proxycommand" and (
        "stricthostkeycheckingno" in squeezed
        or "stricthostkeycheckingoff" in squeezed
        or "knownhostsfile/dev/null" in squeezed
    ):
        raise InventoryError(f"{host}: {place}: {written} weakens the check of host keys", remedy=TRUST)
