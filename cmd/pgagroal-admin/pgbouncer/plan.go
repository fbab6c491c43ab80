package pgbouncer

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// Row says what became of a setting.
type Row struct {
	Setting string // section and name
	Value   string `json:",omitempty"` // without passwords
	Became  string `json:",omitempty"` // file and key here, empty if there is no counterpart
	Text    string `json:",omitempty"` // what is different, or what to do instead
}

// Idle says that a setting needs no counterpart.
func (r Row) Idle() bool { return r.Became == "" && strings.HasPrefix(r.Text, notNeeded) }

// Result is a configuration of pgagroal.
type Result struct {
	Files map[string]string // texts by name, without that of the users
	Users []config.Credential
	Rows  []Row
}

// importer builds a Result.
type importer struct {
	Result
	conf     *config.MainText
	set      map[string]string // of the section [pgbouncer]
	pairs    []setting         // of [databases] and [users], in order
	listed   []account         // of the list of users
	asks     bool              // auth_query was taken over
	accounts []account
	hba      []string
	limits   []string
	names    []string // of the databases that clients may use; nil for all
	largest  int      // most connections that PgBouncer would open
	section  string   // of the server
}

// Import reads an ini file of PgBouncer and its list of users, whose path may be empty.
func Import(ini, userlist string) (*Result, error) {
	settings, err := readINI(ini, "", 0)
	if err != nil {
		return nil, err
	}
	m := &importer{conf: config.NewMainText(config.FileConfig, []byte(confHead)), set: map[string]string{}, section: "primary"}
	if userlist != "" {
		if m.accounts, err = readAccounts(userlist); err != nil {
			return nil, err
		}
		m.listed = slices.Clone(m.accounts)
	}
	for _, s := range settings {
		switch s.section {
		case "pgbouncer":
			m.set[s.key] = s.value
		case "databases", "users":
			m.pairs = append(m.pairs, s)
		default:
			m.row(s.section+"."+s.key, "", "", notNeeded+"one pgagroal has a process for each CPU")
		}
	}
	m.main()
	m.log()
	if err := m.databases(); err != nil {
		return nil, err
	}
	m.clientTLS()
	m.authentication()
	m.files()
	return &m.Result, nil
}

const confHead = "# Made from a configuration of PgBouncer by pgagroal-admin import. Keys that aren't here have their defaults;\n" +
	"# pgagroal.conf(5) has all of them. Look it over, then: pgagroal-admin check\n[pgagroal]\n"

func (m *importer) row(name, value, became, text string) {
	m.Rows = append(m.Rows, Row{Setting: name, Value: value, Became: became, Text: text})
}

// key sets a key of a section, and says so. from is the setting of PgBouncer.
func (m *importer) key(section, key, value, from, old, text string) {
	if err := m.conf.Set(section, key, value, ""); err != nil {
		m.row(from, old, "", "it can't be taken over: "+err.Error())
		return
	}
	m.row(from, old, fmt.Sprintf("%s: [%s] %s = %s", config.FileConfig, section, key, value), text)
}

// nothing are values by which a setting does nothing, or what PgBouncer does anyway.
var nothing = []string{"", "0", "default", "auto", "<system default>"}

// main takes over the settings that have a row in the table, in the order of the keys here.
func (m *importer) main() {
	names := slices.Collect(maps.Keys(m.set))
	for name, r := range rules {
		if _, ok := m.set[name]; !ok && r.key != "" && (r.standard != "" || name == "listen_addr") {
			names = append(names, name)
		}
	}
	order := map[string]int{"": math.MaxInt}
	for i, row := range config.Keys() {
		if row.Section == config.MainSection {
			order[row.Name] = i
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(order[rules[a].key], order[rules[b].key]), cmp.Compare(a, b))
	})
	for _, name := range names {
		r, ok := ruleOf(name)
		value, given := m.set[name]
		switch {
		case elsewhere[name]:
			continue
		case !ok:
			m.row(name, value, "", "unknown: PgBouncer doesn't document it, or is newer than this program")
			continue
		case given && slices.Contains(nothing, value) && (r.key == "" || value != "0") && name != "listen_addr":
			m.row(name, value, "", notNeeded+"it changes nothing there either")
			continue
		case r.key == "":
			m.row(name, value, "", r.text)
			continue
		case !given:
			value = r.standard
		}
		m.rule(name, value, given, r)
	}
}

func (m *importer) rule(name, value string, given bool, r rule) {
	shown, text, now := value, r.text, value
	if r.convert != nil {
		converted, more, err := r.convert(value)
		if err != nil {
			m.row(name, value, "", "it can't be taken over: "+err.Error())
			return
		}
		if now = converted; more != "" {
			text = more
		}
	}
	if !given {
		shown += " (PgBouncer's default)"
	}
	m.key("pgagroal", r.key, now, name, shown, text)
}

// log decides where the log goes.
func (m *importer) log() {
	if on, _, _ := boolean(m.set["syslog"]); on == "on" {
		m.key("pgagroal", "log_type", "syslog", "syslog", m.set["syslog"], "")
		return
	}
	if path := m.set["logfile"]; path != "" {
		m.key("pgagroal", "log_type", "file", "logfile", path, "")
		m.key("pgagroal", "log_path", path, "logfile", path, "the account of pgagroal must be able to write to the directory")
	}
}

// files puts the texts together.
func (m *importer) files() {
	m.Files = map[string]string{
		config.FileConfig: string(m.conf.Bytes()),
		config.FileHBA:    head("TYPE DATABASE USER ADDRESS METHOD") + lines(m.hba),
	}
	if len(m.limits) > 0 {
		m.Files[config.FileLimits] = head("DATABASE[=ALIAS,...] USER MAX_SIZE") + lines(m.limits)
	}
}

func head(form string) string {
	return "# Made from a configuration of PgBouncer by pgagroal-admin import.\n# " + form + "\n"
}

func lines(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return strings.Join(list, "\n") + "\n"
}
