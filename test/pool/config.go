package pool

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

func (p *Pool) writeConfig(s Setup) {
	var b strings.Builder
	b.WriteString("[pgagroal]\n")
	for k, v := range p.keys {
		fmt.Fprintf(&b, "%s = %s\n", k, v)
	}
	for _, srv := range s.Servers {
		fmt.Fprintf(&b, "\n[%s]\nhost = %s\nport = %d\n", srv.Name, srv.Host, srv.Port)
		for k, v := range srv.More {
			fmt.Fprintf(&b, "%s = %s\n", k, v)
		}
	}
	WriteFile(p.T, p.Path("pgagroal.conf"), b.String(), 0o644)
	hba := s.HBA
	if hba == "" {
		hba = "host all all all trust\n"
	}
	WriteFile(p.T, p.Path("pgagroal_hba.conf"), hba, 0o644)
	WriteFiles(p.T, p.Dir, s.Referred)
	WriteFile(p.T, p.Path("pgagroal_databases.conf"), s.Databases, 0o644)
	p.writeUsers(s)
}

// writeUsers makes the credential files with pgagroal-admin, as a user would.
func (p *Pool) writeUsers(s Setup) {
	if len(s.Users) == 0 && s.Superuser == "" {
		return
	}
	p.Admin("master-key", "-f", p.Path("pgagroal_users.conf"), "-P", "a master key for tests")
	for name, password := range s.Users {
		p.Admin("-f", p.Path("pgagroal_users.conf"), "-U", name, "-P", password, "user", "add")
	}
	if name, password, ok := strings.Cut(s.Superuser, ":"); ok {
		p.Admin("-f", p.Path("pgagroal_superuser.conf"), "-U", name, "-P", password, "user", "add")
	}
}

// Admin runs pgagroal-admin, which must succeed.
func (p *Pool) Admin(args ...string) {
	p.T.Helper()
	if out, err := p.Command("pgagroal-admin", args...).CombinedOutput(); err != nil {
		p.T.Fatalf("pgagroal-admin %v: %v\n%s", args, err, out)
	}
}

// SetKey puts a key into the main section of a prepared pool, in the place of the same key.
func (p *Pool) SetKey(key, value string) {
	p.T.Helper()
	file := p.Path("pgagroal.conf")
	data, err := os.ReadFile(file)
	if err != nil {
		p.T.Fatal(err)
	}
	main, servers, _ := strings.Cut(strings.TrimPrefix(string(data), "[pgagroal]\n"), "\n[")
	before := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(key) + ` *=.*\n?`) // the last of a key would count
	text := "[pgagroal]\n" + key + " = " + value + "\n" + before.ReplaceAllString(main, "")
	if servers != "" {
		text += "\n[" + servers
	}
	WriteFile(p.T, file, text, 0o644)
}
