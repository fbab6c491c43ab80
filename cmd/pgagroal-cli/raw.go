package main

// Numbers of the raw format, those of pgagroal where it has the name.
var (
	commandCodes = map[string]int{
		"cancel-shutdown": 1, "conf-ls": 2, "conf-get": 3, "status-details": 5,
		"shutdown-gracefully": 10, "ping": 11, "clear-server": 14, "shutdown": 15,
		"status": 16, "switch-to": 17,
		"failover-status": 100, "failover-history": 101, "failover-pause": 102,
		"failover-resume": 103, "failover-reset": 104, "failover-trigger": 105,
		"failover-rehearse": 106,
	}
	outputCodes      = map[string]int{"raw": 0, "text": 1, "json": 2}
	compressionCodes = map[string]int{"none": 0}
	encryptionCodes  = map[string]int{"none": 0}
	serverCodes      = map[string]int{
		"Not init": -2, "Not init (primary)": -1, "Primary": 0, "Replica": 1, "Failover": 2, "Failed": 3,
	}
	connectionCodes = map[string]int{
		"Not initialized": -2, "Initializing": -1, "Free": 0, "Active": 1, "Graceful": 2, "Flush": 3,
		"Idle check": 4, "Max connection age check": 5, "Validating": 6, "Removing": 7,
	}
)

// toCodes replaces names by numbers where the raw format has them. A name
// without a number stays as it is.
func toCodes(doc object) {
	if h, ok := doc["Header"].(object); ok {
		code(h, "Command", commandCodes)
		code(h, "Output", outputCodes)
		code(h, "Compression", compressionCodes)
		code(h, "Encryption", encryptionCodes)
	}
	response, _ := doc["Response"].(object)
	each(response["Servers"], func(o object) { code(o, "State", serverCodes) })
	each(response["Connections"], func(o object) { code(o, "State", connectionCodes) })
}

// each calls f for every object of a list or of an object.
func each(v any, f func(object)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if o, ok := item.(object); ok {
				f(o)
			}
		}
	case object:
		for _, item := range v {
			if o, ok := item.(object); ok {
				f(o)
			}
		}
	}
}

func code(o object, key string, codes map[string]int) {
	name, _ := o[key].(string)
	if n, ok := codes[name]; ok {
		o[key] = n
	}
}
