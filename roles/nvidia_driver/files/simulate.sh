# What apt would do for packages, with other preferences than the host has now. Changes nothing.
# Standard input: the preferences. Arguments: their name, packages.
set -eu
name=$1
shift
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
cp /etc/apt/preferences.d/* "$parts" 2>/dev/null || :
cat >"$parts/$name"
chmod -R a+rX "$parts"
LC_ALL=C apt-get -o Dir::Etc::PreferencesParts="$parts" --simulate --no-install-recommends \
    --allow-downgrades --allow-change-held-packages -o APT::Ignore-Hold=true install "$@"
