package config

import (
	"slices"
	"time"
)

// Section is a kind of section of pgagroal.conf.
type Section int

// Kinds of section.
const (
	MainSection   Section = iota // [pgagroal], [prometheus] and [health_check]
	ServerSection                // a section with any other name
)

// Kind is the type of a key's value.
type Kind int

// Types of values. The field behind a key is a *string, *int, *int64, *bool or *time.Duration.
const (
	String     Kind = iota
	Path            // environment variables are expanded
	File            // a path without expansion, because another process has to read the same path
	Enum            // one word of Values
	Bool            // on off yes no true false 1 0
	Int             // decimal, Min to Max
	Port            // Min to 65535
	Workers         // auto or Int
	Size            // bytes, with B K M G; stored in *int64
	Duration        // whole seconds, with s m h d w
	DurationMS      // like Duration, and also milliseconds with ms
	Seconds         // plain number of seconds, stored in *time.Duration
	Millis          // plain number of milliseconds, stored in *time.Duration
)

// Reload says what a change of a key needs.
type Reload int

// Reload classes.
const (
	Live Reload = iota
	Restart
)

// String returns live or restart.
func (r Reload) String() string { return [...]string{"live", "restart"}[r] }

// Row describes one key of pgagroal.conf.
type Row struct {
	Name     string
	Section  Section
	Kind     Kind
	Default  string // in the syntax of the file; empty means no default
	Failover string // the default with failover = on; empty means Default
	Min      int64  // for Int and Port, and milliseconds for DurationMS
	Max      int64  // 0 means no bound; milliseconds for Duration
	Values   []string
	Aliases  map[string]string // other spelling -> word of Values
	Reload   Reload
	ClampMin bool // a value below Min becomes Min, with a warning
	ClampMax bool // a value above Max becomes Max, with a warning
	Inert    bool // the key is accepted for files of C pgagroal, and there is nothing it could change here
	Later    bool // the key is accepted but not yet in effect
	Help     string

	main   func(*Config) any // pointer to the field, for MainSection
	server func(*Server) any // pointer to the field, for ServerSection
}

// Keys returns the table: every key, main section first, in the order of the sample file.
func Keys() []Row { return slices.Concat(mainRows(), failoverRows(), serverRows()) }

// New returns a configuration that holds every default and no server.
func New() *Config {
	c := &Config{origins: map[string]Origin{}}
	for _, r := range Keys() {
		if r.Section == MainSection && r.Default != "" {
			mustSet(r, r.Default, r.main(c))
		}
	}
	return c
}

// newServer returns a server section that holds every default.
func newServer(name, file string, line int) Server {
	s := Server{Name: name, File: file, Line: line}
	for _, r := range Keys() {
		if r.Section == ServerSection && r.Default != "" {
			mustSet(r, r.Default, r.server(&s))
		}
	}
	return s
}

// mustSet stores a default of r. It panics if the row refuses its own default.
func mustSet(r Row, text string, field any) {
	v, err := r.parse(text)
	if err != nil {
		panic("config: default of " + r.Name + ": " + err.Error())
	}
	store(field, v)
}

// store writes a parsed value to the field of its key.
func store(field, v any) {
	switch p := field.(type) {
	case *string:
		*p = v.(string)
	case *int:
		*p = int(v.(int64))
	case *int64:
		*p = v.(int64)
	case *bool:
		*p = v.(bool)
	case *time.Duration:
		*p = v.(time.Duration)
	}
}
