//go:build bare

package firsthour

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBareGettingStarted plays the guide on a Debian with nothing in it, in each way.
func TestBareGettingStarted(t *testing.T) {
	t.Run(ofPackage, func(t *testing.T) { newBareMachine(t, withPackage).getStarted(ofPackage) })
	t.Run(ofCheckout, func(t *testing.T) {
		m := newBareMachine(t, copyCheckout)
		m.must("apt-get -q -y install make postgresql") // of which the guide says that they are needed
		m.getStarted(ofCheckout)
	})
}

// entered makes an overlay over a bare root, with devices, Go and its caches, and enters it. $ROOT is the root, $DIR a
// directory for the overlay, $FILES what it gets.
const entered = `
set -e
mount --make-rprivate /
mount -t tmpfs -o size=6g machine $DIR
mkdir $DIR/upper $DIR/work $DIR/root
r=$DIR/root
mount -t overlay -o lowerdir=$ROOT,upperdir=$DIR/upper,workdir=$DIR/work machine $r
mount -t proc proc $r/proc
mount --rbind /dev $r/dev
mount --make-rprivate $r/dev
mount -t tmpfs -o mode=1777 tmpfs $r/dev/shm
for dir in $CACHES; do mkdir -p $r$dir; mount --bind $dir $r$dir; done
mount --bind $FILES $r/mnt
ip link set lo up
set +e
exec env HOME=/root chroot $r /bin/bash
`

// settled is what makes it a machine that somebody has logged into.
const settled = `
set -e
cp /mnt/systemctl /mnt/journalctl /usr/local/sbin/
cp -a /mnt/files /srv/
echo "127.0.0.1 localhost $(cat /proc/sys/kernel/hostname)" >/etc/hosts
echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections
cd /srv/files
set +e
`

// newBareMachine is a Debian with nothing in it but what fill puts into the directory where its shell begins.
func newBareMachine(t *testing.T, fill func(t *testing.T, dir string)) *machine {
	t.Helper()
	root, err := exec.Command("../../.ci/root", "bare").Output()
	if err != nil {
		t.Fatalf(".ci/root bare: %v", err)
	}
	dir := shared(t)
	files := filepath.Join(dir, "files")
	must(t, os.Mkdir(files, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "machine"), 0o755))
	for _, name := range []string{"systemctl", "journalctl"} {
		must(t, copied(filepath.Join("testdata", name), files))
	}
	fill(t, filepath.Join(files, "files"))
	m := &machine{t: t, out: &output{}}
	must(t, m.start(dir))
	caches := []string{goEnv(t, "GOROOT"), goEnv(t, "GOMODCACHE"), goEnv(t, "GOCACHE")}
	m.must(strings.NewReplacer("$ROOT", strings.TrimSpace(string(root)), "$DIR", filepath.Join(dir, "machine"), "$FILES", files,
		"$CACHES", strings.Join(caches, " ")).Replace(entered) + settled)
	return m
}

// withPackage makes the .deb of this checkout.
func withPackage(t *testing.T, dir string) {
	t.Helper()
	work := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "deb", "VERSION=1.2.3", "DIST="+work)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("make deb: %v\n%s", err, &said)
	}
	made, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(made) != 1 {
		t.Fatal(made, err)
	}
	must(t, os.MkdirAll(dir, 0o755))
	must(t, copied(made[0], dir))
}
