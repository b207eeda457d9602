# What apt would do for packages, with other preferences than the host has now. Changes nothing.
# Standard input: the preferences. Arguments: their name, the driver's version, parts of other versions, packages.
# Parts that it would bring to no such version have to leave with it: they are named first, as `Leaves PART`.
set -eu
name=$1 version=$2 strays=$3
shift 3
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
    echo "$said" | grep -qE "^(Remv $stray[: ]|Inst $stray[: ].*[(]([0-9]+:)?$version[-+~ ])" && continue
    leaving=true
    echo "Leaves $stray"
    set -- "$@" "$stray-"
done
# Where they cannot leave, what came first may say why.
if [ $leaving = true ]; then simulate "$@" || { echo "$said"; exit 1; }; else echo "$said"; fi
