# What apt would do for packages, with other preferences than the host has now. Changes nothing.
# Standard input: the preferences. Arguments: their name, parts of other versions, packages.
# Parts that it would leave as they are have to leave with it: they are named first, as `Leaves PART`.
set -eu
name=$1 strays=$2
shift 2
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
cp /etc/apt/preferences.d/* "$parts" 2>/dev/null || :
cat >"$parts/$name"
chmod -R a+rX "$parts"

simulate() {
    LC_ALL=C apt-get -o Dir::Etc::PreferencesParts="$parts" --simulate --no-install-recommends \
        --allow-downgrades --allow-change-held-packages -o APT::Ignore-Hold=true install "$@"
}

said=$(simulate "$@") || { echo "$said"; exit 1; }
leaving=false
for stray in $strays; do
    echo "$said" | grep -qE "^(Inst|Remv) $stray[: ]" && continue
    leaving=true
    echo "Leaves $stray"
    set -- "$@" "$stray-"
done
if [ $leaving = true ]; then simulate "$@"; else echo "$said"; fi
