package config

import "time"

// settle gives values to the keys whose value follows from other keys, and replaces values that can't work, with a
// warning, as C pgagroal does. It is repeated after each change of a key.
func (c *Config) settle() []Warning {
	for _, r := range Keys() {
		if r.Section != MainSection || r.Failover == "" || c.origins[r.Name] != (Origin{}) {
			continue
		}
		text := r.Default
		if c.Failover {
			text = r.Failover
		}
		mustSet(r, text, r.main(c))
	}
	var warnings []Warning
	warn := func(key, msg string) {
		file, line := c.at(key)
		warnings = append(warnings, Warning{file, line, key, msg})
	}
	if c.HealthCheckUser == "" && c.origins["health_check"] == (Origin{}) {
		c.HealthCheck = false // it is on by default only, and there is no user to log in as
	}
	if c.AuthenticationTimeout == 0 {
		c.AuthenticationTimeout = 5 * time.Second
		warn("authentication_timeout", "0 would let nobody in; 5s is used instead")
	}
	for _, k := range []struct {
		name string
		d    time.Duration
	}{{"health_check_period", c.HealthCheckPeriod}, {"health_check_timeout", c.HealthCheckTimeout}} {
		if k.d < time.Second && c.HealthCheck {
			c.HealthCheck = false
			warn(k.name, "less than 1s; health_check is off")
		}
	}
	if c.origins["failover_probe_timeout"] == (Origin{}) && c.HealthCheckTimeout >= time.Second {
		c.FailoverProbeTimeout = c.HealthCheckTimeout // all that a file of C pgagroal can say
	}
	return warnings
}
