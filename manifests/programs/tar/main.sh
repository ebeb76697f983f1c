# Packs `content`, unpacks it elsewhere, and compares.
set -eu
tar --create --gzip --sort=name --file /tmp/content.tar.gz content
tar --list --gzip --file /tmp/content.tar.gz
mkdir /tmp/unpacked
tar --extract --gzip --file /tmp/content.tar.gz --directory /tmp/unpacked
diff --recursive content /tmp/unpacked/content
echo the same
