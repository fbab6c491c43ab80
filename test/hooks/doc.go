// Package hooks tests what pgagroal promises to its scripts, as pgagroal-hooks(7) says it.
package hooks
