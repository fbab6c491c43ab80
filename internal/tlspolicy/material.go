package tlspolicy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// maxFile is the greatest size of each file. Revocation lists of large authorities have a
// few MiB.
const maxFile = 16 << 20

// Files has the paths of the files that Load reads. CA and CRL may be empty.
type Files struct {
	Pairs []PairFiles // the first pair serves clients that ask for no name, or for an unknown one
	CA    string      // CASystem: the system's authorities
	CRL   string
}

// PairFiles has the paths of a certificate, whose file may go on with intermediates, and
// of its private key.
type PairFiles struct{ Cert, Key string }

// CASystem stands for the authorities that the operating system trusts.
const CASystem = "system"

// systemBundles are the files of the trusted authorities in Debian, Red Hat, SUSE and
// Alpine.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
}

// Secret is bytes that no log shows. See Format.
type Secret []byte

// Format makes package fmt print a placeholder instead of the secret, with every verb.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "(secret)") }

// Material is everything that a Config is built from: the contents of the files, in PEM
// form. CRL may also be DER.
type Material struct {
	Pairs []Pair
	CA    []byte
	CRL   []byte
}

// Pair is a chain, the leaf first, and its key.
type Pair struct {
	Chain []byte
	Key   Secret
}

// Load reads and checks the files. They must be owned by root or by the user of this
// process. A key of this user must not be accessible to group and others; a key of root
// may be readable by its group.
func Load(files Files) (Material, error) {
	var m Material
	for _, f := range files.Pairs {
		chain, err := read(f.Cert, "certificate", checkOwner)
		if err != nil {
			return Material{}, err
		}
		key, err := read(f.Key, "private key", checkKey)
		if err != nil {
			return Material{}, err
		}
		m.Pairs = append(m.Pairs, Pair{Chain: chain, Key: key})
		if _, err := m.Pairs[len(m.Pairs)-1].certificate(); err != nil {
			return Material{}, fmt.Errorf("%s with %s: %w", f.Cert, f.Key, err)
		}
	}
	var err error
	switch {
	case files.CA == CASystem:
		m.CA, err = readSystem(systemBundles)
	case files.CA != "":
		m.CA, err = read(files.CA, "root certificate", checkOwner)
	}
	if err == nil && files.CRL != "" {
		m.CRL, err = read(files.CRL, "certificate revocation list", checkOwner)
	}
	if err != nil {
		return Material{}, err
	}
	if _, err := m.roots(); err != nil {
		return Material{}, fmt.Errorf("%s: %w", files.CA, err)
	}
	if _, err := m.lists(); err != nil {
		return Material{}, fmt.Errorf("%s: %w", files.CRL, err)
	}
	return m, nil
}

// read returns the content of a file. It checks the file that it has opened, because the
// path may lead to another file at another time.
func read(path, what string, check func(os.FileInfo) error) ([]byte, error) {
	if path == "" {
		return nil, fmt.Errorf("no %s file is set", what)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, fmt.Errorf("could not open %s file: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("could not stat %s file: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s file %s is not a regular file", what, path)
	}
	if err := check(info); err != nil {
		return nil, fmt.Errorf("%s file %s %w", what, path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("could not read %s file %s: %w", what, path, err)
	}
	return b, nil
}

func checkOwner(info os.FileInfo) error {
	return ownedBy(info, os.Geteuid())
}

func checkKey(info os.FileInfo) error {
	return keyOf(info, os.Geteuid())
}

func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

func ownedBy(info os.FileInfo, self int) error {
	if uid := owner(info); uid != 0 && uid != self {
		return fmt.Errorf("must be owned by root or by user %d, not by user %d", self, uid)
	}
	return nil
}

func keyOf(info os.FileInfo, self int) error {
	if err := ownedBy(info, self); err != nil {
		return err
	}
	forbidden := os.FileMode(0o077)
	if owner(info) == 0 && self != 0 {
		forbidden = 0o037
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return fmt.Errorf("has group or world access (mode %04o); use u=rw (0600) or less if owned by pgagroal's user, or u=rw,g=r (0640) or less if owned by root", mode)
	}
	return nil
}

func readSystem(bundles []string) ([]byte, error) {
	for _, path := range bundles {
		b, err := os.ReadFile(path)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("could not read the system's root certificates: %w", err)
		}
	}
	return nil, errors.New("the system has no file of root certificates; install ca-certificates or name a file")
}

// certificate parses a pair, and checks that certificate and key belong together.
func (p Pair) certificate() (tls.Certificate, error) {
	cert, err := tls.X509KeyPair(p.Chain, p.Key)
	if err != nil {
		return cert, fmt.Errorf("certificate and private key do not fit together: %w", err)
	}
	return cert, nil
}

// roots returns the authorities, nil if there are none.
func (m Material) roots() (*x509.CertPool, error) {
	if m.CA == nil {
		return nil, nil
	}
	pool, count := x509.NewCertPool(), 0
	for rest := m.CA; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil { // skip unreadable ones, as OpenSSL does
			pool.AddCert(cert)
			count++
		}
	}
	if count == 0 {
		return nil, errors.New("no root certificate found")
	}
	return pool, nil
}

// Digest returns a hash that is the same for the same material and differs for any other.
// Private keys are not hashed: the public key in the certificate stands for them.
func (m Material) Digest() [sha256.Size]byte {
	h := sha256.New()
	part := func(b []byte) {
		sum := sha256.Sum256(b)
		h.Write(sum[:])
	}
	for _, p := range m.Pairs {
		part(p.Chain)
	}
	part(m.CA)
	part(m.CRL)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// NotAfter returns when the first certificate of Pairs expires, intermediates included. It
// is zero if there are none.
func (m Material) NotAfter() time.Time {
	var first time.Time
	for _, p := range m.Pairs {
		for block, rest := pem.Decode(p.Chain); block != nil; block, rest = pem.Decode(rest) {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err == nil && (first.IsZero() || cert.NotAfter.Before(first)) {
				first = cert.NotAfter
			}
		}
	}
	return first
}

// pemOrDER returns b itself if it isn't PEM, otherwise the content of its PEM blocks of
// this kind.
func pemOrDER(b []byte, kind string) [][]byte {
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		return [][]byte{b}
	}
	var list [][]byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			list = append(list, block.Bytes)
		}
	}
	return list
}
