# Where dnf finds a package: `host`, `repository` or `nowhere`. Changes nothing.
# Arguments: the package, and a repository that may be added (or nothing).
package=$1 url=$2

found() { dnf ${FLAGPROV_DNF:-} -q -y repoquery --qf 'found %{name}\n' "$@" "$package" | grep -q '^found'; }

if found; then
    echo host
elif [ -n "$url" ] && found --repofrompath="flagprov-offer,$url" --repo=flagprov-offer; then
    echo repository
else
    echo nowhere
fi
