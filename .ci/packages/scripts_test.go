package main

import (
	"os"
	"slices"
	"testing"
)

// copyOfTheRoot runs a command in a root that looks like that of the machine, and keeps what it writes from the machine.
// The files that follow are in /given.
const copyOfTheRoot = `
set -e
command=$1
shift
d=$(mktemp -d)
mount -t tmpfs copy "$d"
mkdir "$d/upper" "$d/work" "$d/root"
mount -t overlay -o lowerdir=/,upperdir="$d/upper",workdir="$d/work" copy "$d/root"
mount -t proc proc "$d/root/proc"
mount --bind /dev "$d/root/dev"
mkdir "$d/root/given"
cp "$@" "$d/root/given"
chroot "$d/root" sh -c "$command" && status=0 || status=$?
umount "$d/root/dev" "$d/root/proc" "$d/root" "$d"
rmdir "$d"
exit $status
`

func inACopyOfTheRoot(t testing.TB, files []string, command string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a root of its own needs root")
	}
	args := slices.Concat([]string{"--mount", "--propagation", "private", "sh", "-c", copyOfTheRoot, "sh", command}, files)
	return must(t, ".", "unshare", args...)
}

// TestDpkgDoesWhatItShouldInEachSituation: the transcript has, for each situation, what service manager and pgagroal were
// asked for, what was said to the administrator, and the state of the package.
func TestDpkgDoesWhatItShouldInEachSituation(t *testing.T) {
	want, err := os.ReadFile("testdata/scenes.txt")
	if err != nil {
		t.Fatal(err)
	}
	given := []string{"testdata/scenes.sh", "scripts/rpm.post", "scripts/rpm.preun", "scripts/rpm.postun", made(t, "deb", "amd64")}
	got := inACopyOfTheRoot(t, given, "sh /given/scenes.sh /given/*.deb")
	if got != string(want) {
		t.Errorf("the transcript is another one than testdata/scenes.txt:\n%s", got)
	}
}
