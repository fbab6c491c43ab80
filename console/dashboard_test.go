package console

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dashboardFile = "../contrib/grafana/pgagroal.json"

// panel is one picture of the dashboard. Its description is made of the metrics' help.
type panel struct {
	title string
	kind  string // timeseries, stat or state-timeline
	unit  string // as Grafana names it
	width int    // of 24
	exprs []expr
}

// expr is an expression of PromQL, in which $on stands for the choice of instances, and the
// name of its lines.
type expr struct{ query, legend string }

// section is a row of panels under a title.
type section struct {
	title  string
	panels []panel
}

// sections are in the order of the questions at 3 a.m.: can clients work, what does the
// failover do, how are the servers, how is the service, who uses the pool, how is pgagroal.
var sections = []section{
	{"Now", []panel{
		{"Clients can write", "stat", "bool_yes_no", 4, []expr{{`min(pgagroal_writable{$on})`, ""}}},
		{"Alarms", "stat", "short", 4, []expr{{`sum(pgagroal_alarms{$on})`, ""}}},
		{"Problems of a failover", "stat", "short", 4, []expr{{`max(pgagroal_failover_problems{$on})`, ""}}},
		{"Held for", "stat", "s", 4, []expr{{`max(pgagroal_failover_held_seconds{$on})`, ""}}},
		{"Last failover", "stat", "dateTimeFromNow", 4, []expr{{`max(pgagroal_failover_last_success_timestamp_seconds{$on} > 0) * 1000`, ""}}},
		{"First certificate ends", "stat", "dateTimeFromNow", 4, []expr{{`min(pgagroal_certificate_end_timestamp_seconds{$on}) * 1000`, ""}}},
	}},
	{"Failover", []panel{
		{"Phase", "state-timeline", "short", 12, []expr{{`pgagroal_failover_phase{$on} == 1`, "{{instance}} {{phase}}"}}},
		{"Primary", "state-timeline", "short", 12, []expr{{`pgagroal_server_state{state="primary", $on}`, "{{instance}} {{server}}"}}},
		{"Epoch", "timeseries", "short", 8, []expr{{`pgagroal_failover_epoch{$on}`, "{{instance}}"}}},
		{"Runs of scripts", "timeseries", "short", 8, []expr{{`increase(pgagroal_failover_runs_total{$on}[$__rate_interval])`, "{{hook}} {{outcome}}"}}},
		{"Time in phases that hold clients", "timeseries", "s", 8, []expr{{`increase(pgagroal_failover_phase_seconds_total{phase!~"open|starting|notify", $on}[$__rate_interval])`, "{{instance}} {{phase}}"}}},
		{"Phases of the last failover", "timeseries", "s", 12, []expr{{`pgagroal_failover_last_seconds{$on}`, "{{instance}} {{phase}}"}}},
		{"Alarms by name", "state-timeline", "short", 12, []expr{{`pgagroal_alarm{$on}`, "{{instance}} {{alarm}}"}}},
	}},
	{"Servers", []panel{
		{"Lag", "timeseries", "s", 8, []expr{{`pgagroal_server_lag_seconds{$on}`, "{{instance}} {{server}}"}}},
		{"Lag in bytes", "timeseries", "bytes", 8, []expr{{`pgagroal_server_lag_bytes{$on}`, "{{instance}} {{server}}"}}},
		{"Standbys that stream", "state-timeline", "short", 8, []expr{{`pgagroal_server_receiver_streaming{$on}`, "{{instance}} {{server}}"}}},
		{"Mean time of a probe", "timeseries", "s", 8, []expr{{`rate(pgagroal_server_probe_seconds_total{$on}[$__rate_interval]) / on (job, instance, server) sum without (outcome) (rate(pgagroal_server_probes_total{$on}[$__rate_interval]))`, "{{instance}} {{server}}"}}},
		{"Probes that fail", "timeseries", "short", 8, []expr{{`pgagroal_server_probe_failures{$on}`, "{{instance}} {{server}}"}}},
		{"Connections that could not be opened", "timeseries", "ops", 8, []expr{{`rate(pgagroal_backend_errors_total{$on}[$__rate_interval])`, "{{instance}} {{server}}"}}},
	}},
	{"Service", []panel{
		{"Queries", "timeseries", "reqps", 8, []expr{{`rate(pgagroal_query_count{$on}[$__rate_interval])`, "{{instance}}"}}},
		{"Query time", "timeseries", "s", 8, quantiles("query_seconds")},
		{"Transaction time", "timeseries", "s", 8, quantiles("transaction_seconds")},
		{"Wait for a connection", "timeseries", "s", 8, quantiles("wait_seconds")},
		{"Login of clients", "timeseries", "s", 8, quantiles("client_login_seconds")},
		{"Opening a connection to a server", "timeseries", "s", 8, quantiles("backend_login_seconds")},
	}},
	{"Pool", []panel{
		{"Clients", "timeseries", "short", 8, []expr{{`pgagroal_clients{$on}`, "{{instance}} {{state}}"}}},
		{"Connections", "timeseries", "short", 8, []expr{
			{`pgagroal_active_connections{$on}`, "{{instance}} active"}, {`pgagroal_total_connections{$on}`, "{{instance}} all"}, {`pgagroal_max_connections{$on}`, "{{instance}} max_connections"},
		}},
		{"Traffic", "timeseries", "Bps", 8, []expr{
			{`rate(pgagroal_network_sent{$on}[$__rate_interval])`, "{{instance}} to servers"}, {`rate(pgagroal_network_received{$on}[$__rate_interval])`, "{{instance}} to clients"},
		}},
		{"Largest pools", "timeseries", "short", 12, []expr{{`topk(10, sum by (instance, database, user) (pgagroal_pool_connections{$on}))`, "{{database}} {{user}}"}}},
		{"Clients that wait, by pool", "timeseries", "short", 12, []expr{{`topk(10, sum by (instance, database, user) (pgagroal_pool_waiting{$on}) > 0)`, "{{database}} {{user}}"}}},
		{"Logins", "timeseries", "ops", 12, []expr{
			{`rate(pgagroal_auth_user_success{$on}[$__rate_interval])`, "{{instance}} success"}, {`rate(pgagroal_auth_user_bad_password{$on}[$__rate_interval])`, "{{instance}} bad password"}, {`rate(pgagroal_auth_user_error{$on}[$__rate_interval])`, "{{instance}} error"},
		}},
		{"TLS handshakes", "timeseries", "ops", 24, []expr{{`rate(pgagroal_tls_handshakes_total{$on}[$__rate_interval])`, "{{instance}} {{peer}} {{version}} {{result}}"}}},
		{"Connections to servers opened and closed", "timeseries", "ops", 12, []expr{
			{`rate(pgagroal_connection_success{$on}[$__rate_interval])`, "{{instance}} opened"}, {`rate(pgagroal_connection_kill{$on}[$__rate_interval])`, "{{instance}} closed"}, {`rate(pgagroal_connection_timeout{$on}[$__rate_interval])`, "{{instance}} not in time"},
		}},
	}},
	{"Processes", []panel{
		{"Processor", "timeseries", "percentunit", 8, []expr{{`rate(pgagroal_process_cpu_seconds_total{$on}[$__rate_interval])`, "{{instance}} {{process}}"}}},
		{"Memory", "timeseries", "bytes", 8, []expr{{`pgagroal_process_resident_memory_bytes{$on}`, "{{instance}} {{process}}"}}},
		{"Event loops", "timeseries", "s", 8, []expr{{`pgagroal_worker_answer_seconds{$on}`, "{{instance}} {{worker}}"}}},
		{"Lines in the log", "timeseries", "short", 12, []expr{
			{`increase(pgagroal_logging_warn{$on}[$__rate_interval])`, "{{instance}} warn"}, {`increase(pgagroal_logging_error{$on}[$__rate_interval])`, "{{instance}} error"}, {`increase(pgagroal_logging_fatal{$on}[$__rate_interval])`, "{{instance}} fatal"},
		}},
		{"Releases", "timeseries", "short", 12, []expr{{`pgagroal_build_info{$on}`, "{{instance}} {{version}}"}}},
	}},
}

// quantiles shows a histogram of all chosen instances together.
func quantiles(name string) []expr {
	of := func(q string) string {
		return "histogram_quantile(" + q + ", sum by (le) (rate(pgagroal_" + name + "_bucket{$on}[$__rate_interval])))"
	}
	return []expr{{of("0.5"), "half"}, {of("0.99"), "99 %"}}
}

type object = map[string]any

var prometheusSource = object{"type": "prometheus", "uid": "${datasource}"}

// dashboard makes the document that Grafana imports.
func dashboard() object {
	var panels []object
	y, id := 0, 0
	add := func(p object, x, w, h int) {
		id++
		p["id"], p["gridPos"] = id, object{"x": x, "y": y, "w": w, "h": h}
		panels = append(panels, p)
	}
	for _, s := range sections {
		add(object{"type": "row", "title": s.title, "collapsed": false, "panels": []object{}}, 0, 24, 1)
		y++
		x, high := 0, 0
		for _, p := range s.panels {
			if x+p.width > 24 {
				x, y = 0, y+high
			}
			high = 8
			if p.kind == "stat" {
				high = 4
			}
			add(p.document(), x, p.width, high)
			x += p.width
		}
		y += high
	}
	return object{
		"title": "pgagroal", "uid": "pgagroal", "schemaVersion": 36, "version": 1, "editable": true, "refresh": "15s", "tags": []string{"pgagroal", "postgresql"},
		"time": object{"from": "now-1h", "to": "now"}, "panels": panels,
		"templating": object{"list": []object{
			{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
			{
				"name": "instance", "type": "query", "datasource": prometheusSource, "query": "label_values(pgagroal_state, instance)", "refresh": 2,
				"multi": true, "includeAll": true, "current": object{"text": "All", "value": "$__all"}, "label": "pgagroal",
			},
		}},
		"annotations": object{"list": []object{{
			"name": "Changes of primary", "datasource": prometheusSource, "enable": true, "iconColor": "red",
			"expr": onInstances(`changes(pgagroal_failover_epoch{$on}[1m]) > 0`), "titleFormat": "another primary", "textFormat": "{{instance}}",
		}}},
	}
}

func onInstances(query string) string {
	return strings.ReplaceAll(query, "$on", `instance=~"$instance"`)
}

// document is a panel as Grafana has it.
func (p panel) document() object {
	var targets []object
	var help []string
	all := newMetrics()
	for i, e := range p.exprs {
		targets = append(targets, object{"refId": string(rune('A' + i)), "expr": onInstances(e.query), "legendFormat": e.legend, "datasource": prometheusSource})
		for _, m := range namedMetric.FindAllStringSubmatch(e.query, -1) {
			name := m[1]
			if all[name] == nil {
				name = strings.TrimSuffix(name, "_bucket")
			}
			if text := prefix + name + ": " + all[name].help + "."; !slices.Contains(help, text) {
				help = append(help, text)
			}
		}
	}
	return object{
		"type": p.kind, "title": p.title, "description": strings.Join(help, "\n\n"), "datasource": prometheusSource, "targets": targets,
		"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0}, "overrides": []object{}},
	}
}

// TestDashboardIsThatOfTheTable compares the installed document with the one that the table
// of metrics and the list of panels make.
func TestDashboardIsThatOfTheTable(t *testing.T) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(dashboard()); err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(dashboardFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.String(), string(have)); d != "" {
		t.Errorf("the dashboard is out of date (-now +file): run with -rewrite\n%s", d)
	}
}

func TestDashboardNamesMetricsThatExist(t *testing.T) {
	for _, s := range sections {
		for _, p := range s.panels {
			for _, e := range p.exprs {
				for _, x := range unknown(strings.ReplaceAll(e.query, "$on", "")) {
					t.Errorf("%s: there is no %s", p.title, x)
				}
				if !strings.Contains(e.query, "$on") {
					t.Errorf("%s shows instances that nobody has chosen", p.title)
				}
			}
			if p.document()["description"] == "" {
				t.Errorf("%s says nothing about its metrics", p.title)
			}
		}
	}
}
