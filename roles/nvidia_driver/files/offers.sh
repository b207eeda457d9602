# Which versions of packages are on offer, as YAML: name -> versions as the package manager takes them.
# Arguments: apt or dnf, packages.
manager=$1
shift
if [ "$manager" = apt ]; then
    for name in "$@"; do
        # A name that others only provide has versions of its own nowhere.
        printf "'%s': [%s]\n" "$name" "$(apt-cache madison "$name" 2>/dev/null | awk -v name="$name" -v q="'" '$1 == name && !seen[$3]++ {printf "%s%s%s,", q, $3, q}')"
    done
else
    for name in "$@"; do
        found=$(for way in "" --whatprovides; do
            dnf ${FLAGPROV_DNF:-} -q -y repoquery --disableexcludes=all --showduplicates --qf '%{epoch}:%{version}-%{release}' $way "$name" || exit 1
        done) || { echo "'$name': []"; continue; }
        printf "'%s': [%s]\n" "$name" "$(echo "$found" | sort -u | awk -v q="'" 'NF {printf "%s%s%s,", q, $1, q}')"
    done
fi
