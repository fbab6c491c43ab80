package supervisor

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// Above these bounds a setting of a standby is worth a remark.
const (
	slowReceiver = 30 * time.Second
	slowRetry    = time.Second
)

// StandbyFindings says what would be in the way of a failover among the parameters of a standby, which are those of
// pg_settings. next says that this standby would be promoted, servers is how many servers there are.
func StandbyFindings(name string, set map[string]string, next bool, servers int) []failover.Finding {
	var list []failover.Finding
	found := func(grave bool, hint, format string, args ...any) {
		list = append(list, failover.Finding{Server: name, Text: fmt.Sprintf(format, args...), Hint: hint, Grave: grave})
	}
	millis := func(key string) (time.Duration, bool) {
		n, err := strconv.Atoi(set[key])
		return time.Duration(n) * time.Millisecond, err == nil
	}
	switch d, ok := millis("wal_receiver_timeout"); {
	case ok && d == 0:
		found(true, "wal_receiver_timeout = 10s", "it never notices that the primary is silent, so a silent one is never given up")
	case ok && d > slowReceiver:
		found(false, "wal_receiver_timeout = 10s", "it notices only after %s that the primary is silent", d)
	}
	if d, ok := millis("wal_retrieve_retry_interval"); ok && d > slowRetry {
		found(false, "wal_retrieve_retry_interval = 1s", "it may take %s longer to end its recovery, or to follow a new primary", d)
	}
	if d, ok := millis("recovery_min_apply_delay"); ok && d > 0 {
		found(false, "failover_candidate = off", "it is delayed by %s, which a promotion has to replay first", d)
	}
	if v, ok := set["recovery_target_timeline"]; ok && v != "latest" {
		found(true, "recovery_target_timeline = latest", "it would not follow a new primary")
	}
	names := set["synchronous_standby_names"]
	switch {
	case !next || names == "" || set["synchronous_commit"] == "local" || set["synchronous_commit"] == "off":
	case servers <= 2: // commits would hang on the new primary
		found(true, "empty synchronous_standby_names in failover_script", "synchronous_standby_names is %q there, and no standby is left: commits would hang", names)
	default:
		found(false, "", "synchronous_standby_names is %q there: commits hang until one of these follows", names)
	}
	return list
}
