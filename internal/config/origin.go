package config

import (
	"maps"
	"slices"
	"strconv"
)

// Origin says where a value was set. The zero value means that it is the default.
type Origin struct {
	File string // or SetByCommand
	Line int    // 0 when there is no line to point to
}

// SetByCommand is the File of a value that pgagroal-cli has set until the next reload.
const SetByCommand = "conf set"

// String returns default, file:line or file.
func (o Origin) String() string {
	switch {
	case o == Origin{}:
		return "default"
	case o.Line == 0:
		return o.File
	}
	return o.File + ":" + strconv.Itoa(o.Line)
}

// FullName returns KEY, or server.NAME.KEY for a key of a server.
func (e Entry) FullName() string { return fullName(e.Server, e.Row.Name) }

func fullName(server, key string) string {
	if server == "" {
		return key
	}
	return "server." + server + "." + key
}

// Origin returns where the value of KEY or server.NAME.KEY was set.
func (c *Config) Origin(name string) Origin { return c.origins[name] }

// Place returns where the main key is set, file:line, or only the file if the key has its default.
func (c *Config) Place(key string) string {
	if o := c.origins[key]; o != (Origin{}) {
		return o.String()
	}
	return "by default, " + c.Paths.Config
}

// at returns the file and line at which to report a problem of a main key.
func (c *Config) at(key string) (file string, line int) {
	if o := c.origins[key]; o != (Origin{}) {
		return o.File, o.Line
	}
	return c.Paths.Config, 0
}

// setOrigin notes where a value was set; the zero Origin makes it the default again.
func (c *Config) setOrigin(name string, o Origin) {
	if c.origins == nil {
		c.origins = map[string]Origin{}
	}
	c.origins[name] = o
	if o == (Origin{}) {
		delete(c.origins, name)
	}
}

// Clone returns a copy whose fields and servers can be changed. The contents of the secondary files
// are shared.
func (c *Config) Clone() *Config {
	d := *c
	d.Servers = slices.Clone(c.Servers)
	d.origins = maps.Clone(c.origins)
	return &d
}
