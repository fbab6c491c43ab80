// Package runner tests runs of scripts: the process that starts them, by itself or as a service,
// and runs that outlive it or the supervisor.
package runner
