# Makes a host of the RHEL family out of a Debian one: real dnf and rpm, no apt, an empty rpm database, a
# dnf repository of its own. Arguments: NAME=DEBIAN_PACKAGE, what the repository shall offer in earnest.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends dnf rpm createrepo-c python3-dnf dnf-plugins-core >/dev/null

mkdir -p /etc/rpm /etc/dnf/vars /etc/yum.repos.d /srv/dnf /root/build
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
echo 9 >/etc/dnf/vars/releasever
printf '[main]\ngpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=True\nskip_if_unavailable=False\n' >/etc/dnf/dnf.conf
printf '[baseos]\nname=BaseOS\nbaseurl=file:///srv/dnf\ngpgcheck=0\nmetadata_expire=1\n' >/etc/yum.repos.d/baseos.repo

package() { # name, what is in it, dependencies
    cat >/root/build/package.spec <<EOF
%define __os_install_post %{nil}
%define _binary_payload w1.gzdio
%define _build_id_links none
%define debug_package %{nil}
AutoReqProv: no
Name: $1
Version: 9.4
Release: 1.el9
$([ "$1" != bash ] || echo Provides: /bin/sh /usr/bin/sh)
License: various
Summary: $1
%description
$1
%install
cp -a /root/build/tree/. %{buildroot}/
%post
systemd-sysusers >/dev/null 2>&1 || :
[ ! -e /usr/lib/systemd/system/docker.socket ] || getent group docker >/dev/null || groupadd --system docker
if [ -d /run/systemd/system ]; then systemctl daemon-reload; systemctl reload dbus.service || :; fi
%files
$(cd /root/build/tree && find . \( -type f -o -type l \) -printf '"/%P"\n')
EOF
    rpmbuild -bb --quiet --define '_rpmdir /srv/dnf' --define '_topdir /root/build/top' /root/build/package.spec
}

# What a RHEL host has from the start, but its package manager here does not know of.
for name in bash ca-certificates iproute kmod procps-ng python3 systemd; do
    mkdir -p /root/build/tree
    package "$name"
done

for pair in "$@"; do
    name=${pair%%=*}
    rm -rf /root/build/tree /root/build/debs
    mkdir -p /root/build/tree /root/build/debs
    cd /root/build/debs
    # shellcheck disable=SC2046
    apt-get -qq download $(apt-get -s install --no-install-recommends "${pair#*=}" | awk '/^Inst/ {print $2}')
    for deb in *.deb; do dpkg-deb -x "$deb" /root/build/tree; done
    cd /root/build/tree
    rm -rf usr/share/doc usr/share/man usr/share/locale
    for merged in bin sbin lib lib64; do
        [ ! -d $merged ] || { mkdir -p usr/$merged; cp -a $merged/. usr/$merged/; rm -r $merged; }
    done
    [ ! -e usr/sbin/runc ] || mv usr/sbin/runc usr/sbin/runc.distrib # the lab's wrapper is in its place
    cd /
    package "$name"
done
createrepo_c --quiet /srv/dnf

printf '#!/bin/sh\ncp -f /etc/pki/ca-trust/source/anchors/*.crt /usr/local/share/ca-certificates/ 2>/dev/null\nexec update-ca-certificates\n' \
    >/usr/bin/update-ca-trust
chmod 755 /usr/bin/update-ca-trust
mkdir -p /etc/pki/ca-trust/source/anchors /etc/pki/rpm-gpg

cat >/usr/lib/os-release <<'EOF'
NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"
CPE_NAME="cpe:/o:rocky:rocky:9::baseos"
EOF
ln -sf ../usr/lib/os-release /etc/os-release
echo 'Rocky Linux release 9.4 (Blue Onyx)' >/etc/redhat-release
cp /etc/redhat-release /etc/rocky-release
rm -f /etc/debian_version

mkdir -p /opt/debian
rm -f /etc/dnf/plugins/local.conf /usr/lib/python3/dist-packages/dnf-plugins/local.py # it keeps packages in a repository of its own
mv /usr/bin/apt* /usr/bin/dpkg* /opt/debian/
rm -rf /root/build /var/cache/apt /var/lib/apt/lists/* /etc/apt
