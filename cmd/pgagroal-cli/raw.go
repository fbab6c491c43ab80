package main

import (
	"encoding/json"
	"strconv"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// Numbers of the raw format. Names that C pgagroal has keep its numbers.
var (
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

// toCodes replaces names by numbers if the raw format has one. Other names stay.
func toCodes(doc *object) {
	if h, ok := doc.get("Header").(*object); ok {
		if name, _ := h.get("Command").(string); control.Find(name) != nil {
			h.set("Command", number(control.Find(name).Number))
		}
		code(h, "Output", outputCodes)
		code(h, "Compression", compressionCodes)
		code(h, "Encryption", encryptionCodes)
	}
	response, _ := doc.get("Response").(*object)
	each(response.get("Servers"), func(o *object) { code(o, "State", serverCodes) })
	each(response.get("Connections"), func(o *object) { code(o, "State", connectionCodes) })
}

// each calls f for every object of a list or of an object.
func each(v any, f func(*object)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if o, ok := item.(*object); ok {
				f(o)
			}
		}
	case *object:
		for _, m := range v.members {
			if o, ok := m.value.(*object); ok {
				f(o)
			}
		}
	}
}

func code(o *object, key string, codes map[string]int) {
	name, _ := o.get(key).(string)
	if n, ok := codes[name]; ok {
		o.set(key, number(n))
	}
}

func number(n int) json.Number { return json.Number(strconv.Itoa(n)) }
