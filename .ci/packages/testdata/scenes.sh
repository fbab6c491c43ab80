#!/bin/sh
# Runs in a copy of the root: installs, upgrades and removes the package in every situation that its scripts know. In
# place of systemctl and pgagroal-cli are two that write down what they are asked. Argument: the package; the scripts of the
# rpm, which has no root here, are beside it.
set -eu
old=/old.deb new=/new.deb
dpkg-deb -R "$1" /unpacked
dpkg-deb -Znone --build /unpacked "$old" >/dev/null
sed -i 's/^Version: .*/Version: 1.2.4-1/' /unpacked/DEBIAN/control
dpkg-deb -Znone --build /unpacked "$new" >/dev/null
rm -rf /unpacked
rm -f /usr/sbin/policy-rc.d # containers have one
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
mkdir /fakes /active
export PATH="/fakes:$PATH"

cat >/fakes/systemctl <<'END'
#!/bin/sh
# A service manager that knows which units are active. What changes nothing isn't written down. Units are enabled and
# masked without it.
case " $* " in *" --root="*) exec /usr/bin/systemctl "$@" ;; esac
for word; do case $word in --quiet | --system | --no-reload | --plain | --no-legend | --full | --state=* | --) shift ;; *) set -- "$@" "$word"; shift ;; esac; done
verb=$1
shift
case $verb in
is-enabled) exec /usr/bin/systemctl --root=/ is-enabled "$@" ;;
is-active) [ -e "/active/$1" ] ;;
list-units) for u in /active/*.service; do if [ -e "$u" ]; then echo "${u##*/} loaded active running"; fi; done ;;
*)
    echo systemctl "$verb" "$@" >>/calls
    case $verb in
    start) for u; do : >"/active/$u"; done ;;
    stop) for u; do rm -f "/active/$u"; done ;;
    disable) for u; do case $u in --now) now=yes ;; *) [ -z "${now-}" ] || rm -f "/active/$u" ;; esac; done ;;
    esac
    ;;
esac
END
cat >/fakes/pgagroal-cli <<'END'
#!/bin/sh
echo "pgagroal-cli $*" >>/calls
[ ! -e /refused ] || exit "$(cat /refused)"
END
chmod 755 /fakes/*

# scene NAME COMMAND...: what the command has led to, and what the package has said.
scene() {
    printf '== %s\n' "$1"
    shift
    : >/calls
    if "$@" >/said 2>&1; then :; else echo "failed: $?"; fi
    uniq /calls
    sed -n -e 's/^pgagroal-go: /says: /p' -e 's/^dpkg: error processing/dpkg: error processing/p' /said
    case $1 in sh) return ;; esac
    dpkg-query -W -f '${db:Status-Status}\n' pgagroal-go 2>/dev/null || echo none
}
install() { dpkg --force-unsafe-io -i "$1"; }
remove() { dpkg -r pgagroal-go; }
purge() { dpkg -P pgagroal-go; }
# left prints what a purge should have removed.
traces() { find /etc /run /lib/systemd /usr/lib /usr/bin /usr/share /var/lib -xdev -name '*pgagroal*' ! -path '/var/lib/dpkg/*' ! -path '/run/systemd/nspawn/*' | sort; }
traces >/before
left() { traces | comm -13 /before - | sed 's/^/left: /'; }

echo '=== without systemd'
scene 'install' install "$old"
id -u pgagroal >/dev/null && echo 'the account is there'
ls /etc/systemd/system/multi-user.target.wants/pgagroal.service /etc/systemd/system/sockets.target.wants/pgagroal.socket
scene 'upgrade' install "$new"
scene 'remove' remove
scene 'purge' purge
left

echo '=== with systemd'
mkdir -p /run/systemd/system
scene 'install' install "$old"
mkdir /etc/pgagroal/two
cp /etc/pgagroal/pgagroal.conf /etc/pgagroal/two
touch /active/pgagroal@two.service
scene 'upgrade while it runs, and a pool of the template' install "$new"
rm /active/pgagroal@two.service
echo 1 >/refused
scene 'downgrade that pgagroal refuses' install "$old"
echo 4 >/refused
scene 'upgrade that ends with a restart' install "$new"
echo 2 >/refused
scene 'downgrade after which nobody answers' install "$old"
rm /refused
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
scene 'upgrade that the administrator does not want' install "$new"
rm /usr/sbin/policy-rc.d
systemctl stop pgagroal.service
scene 'the same version again while it is stopped' install "$new"
systemctl start pgagroal.service

# A package that takes its place, and can't.
mkdir -p /rival/DEBIAN
cat >/rival/DEBIAN/control <<'END'
Package: pgagroal
Version: 2.2
Architecture: all
Maintainer: nobody <nobody@example.com>
Conflicts: pgagroal-go
Replaces: pgagroal-go
Description: another one
END
printf '#!/bin/sh\nexit 1\n' >/rival/DEBIAN/preinst
chmod 755 /rival/DEBIAN/preinst
dpkg-deb --build /rival /rival.deb >/dev/null
scene 'a removal that is taken back' dpkg --force-unsafe-io -i /rival.deb
dpkg -P pgagroal >/dev/null 2>&1 || true

scene 'remove while it runs' remove
scene 'installed again' install "$new"
scene 'purge while it runs' purge
left

echo '=== rpm with systemd'
scene 'install' sh /given/rpm.post 1
touch /active/pgagroal.service
scene 'upgrade while it runs' sh -c 'sh /given/rpm.post 2 && sh /given/rpm.preun 1 && sh /given/rpm.postun 1'
echo 1 >/refused
scene 'upgrade that pgagroal refuses' sh /given/rpm.post 2
echo 4 >/refused
scene 'upgrade that ends with a restart' sh /given/rpm.post 2
rm /refused
scene 'remove' sh -c 'sh /given/rpm.preun 0 && sh /given/rpm.postun 0'
scene 'upgrade while it is stopped' sh /given/rpm.post 2
rmdir /run/systemd/system
echo '=== rpm without systemd'
scene 'upgrade' sh -c 'sh /given/rpm.post 2 && sh /given/rpm.preun 1 && sh /given/rpm.postun 1'
scene 'remove' sh -c 'sh /given/rpm.preun 0 && sh /given/rpm.postun 0'

echo '=== where neither systemd nor its parts are installed'
rm /fakes/systemctl
mv /usr/bin/systemctl /systemctl
cp /var/lib/dpkg/status /status
awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Package: systemd\n/' /status >/var/lib/dpkg/status
scene 'install' install "$old"
grep -o 'depends on systemd.*' /said
purge >/dev/null 2>&1
echo '=== with the parts alone'
for part in sysusers tmpfiles; do
    printf 'Package: systemd-standalone-%s\nStatus: install ok installed\nArchitecture: amd64\nVersion: 252\nMaintainer: nobody <nobody@example.com>\nDescription: a part\n\n' $part
done >>/var/lib/dpkg/status
scene 'install' install "$old"
scene 'purge' purge
left
