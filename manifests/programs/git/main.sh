# Clones the repository that is given, and shows its last commit and its file.
set -eu
git clone --quiet "$1" /tmp/greeting
git -C /tmp/greeting log -1 --format=%s
git -C /tmp/greeting status --short
cat /tmp/greeting/README
