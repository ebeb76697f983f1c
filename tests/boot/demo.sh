# What this may do, twice a second.
may() { if { eval "$1"; } 2>/dev/null; then echo yes; else echo no; fi; }
while :; do
    echo "data=$(may ': </srv/agent/data') secret=$(may ': </srv/secret') port7=$(may ': >/dev/udp/127.0.0.1/7') port9=$(may ': >/dev/udp/127.0.0.1/9')"
    sleep 0.5
done
