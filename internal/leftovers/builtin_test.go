package leftovers

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

var rewrite = flag.Bool("rewrite", false, "write builtin.txt anew with the functions of this server")

// volatileButHarmless are the volatile functions that leave nothing in the session. The
// others were looked at one by one, too: they leave something (set_config, setseed,
// currval and lastval read what is left, advisory locks, replication slots and origins,
// snapshots, pg_backup_start), run a text (query_to_xml, ts_stat), belong to large objects,
// or are for nobody but pg_upgrade.
const volatileButHarmless = `
	array_sample array_shuffle clock_timestamp current_query gen_random_uuid nextval random random_normal setval timeofday
	brin_desummarize_range brin_summarize_new_values brin_summarize_range gin_clean_pending_list
	pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
	pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
	pg_available_wal_summaries pg_blocking_pids pg_cancel_backend pg_collation_actual_version
	pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_create_restore_point pg_current_logfile
	pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version pg_database_size
	pg_get_backend_memory_contexts pg_get_multixact_members pg_get_shmem_allocations pg_get_wait_events
	pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_get_wal_summarizer_state
	pg_hba_file_rules pg_ident_file_mappings pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused pg_jit_available
	pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status
	pg_log_backend_memory_contexts pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir
	pg_ls_replslotdir pg_ls_tmpdir pg_ls_waldir pg_notification_queue_usage pg_notify pg_partition_ancestors pg_partition_tree
	pg_prepared_xact pg_relation_size pg_reload_conf pg_rotate_logfile pg_safe_snapshot_blocking_pids pg_sequence_last_value
	pg_show_all_file_settings pg_sleep pg_sleep_for pg_sleep_until
	pg_stat_clear_snapshot pg_stat_file pg_stat_force_next_flush pg_stat_get_io pg_stat_get_recovery_prefetch
	pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
	pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
	pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
	pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_returned
	pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_stat_reset pg_stat_reset_shared
	pg_stat_reset_single_function_counters pg_stat_reset_single_table_counters pg_stat_reset_slru
	pg_switch_wal pg_table_size pg_tablespace_size pg_terminate_backend pg_total_relation_size
	pg_wal_summary_contents pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status txid_status`

// callable has, for each function that SQL can call, its name and whether all functions of
// that name are harmless by their volatility and language. Built-in objects have numbers
// below 16384.
const callable = `SELECT proname, bool_and(provolatile <> 'v' AND lanname IN ('internal', 'sql'))
	FROM pg_proc p JOIN pg_language l ON l.oid = prolang
	WHERE pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384
	AND NOT proargtypes::oid[] && ARRAY['internal', 'cstring']::regtype[]::oid[]
	AND prorettype NOT IN ('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype, 'event_trigger'::regtype,
		'language_handler'::regtype, 'fdw_handler'::regtype, 'index_am_handler'::regtype, 'table_am_handler'::regtype,
		'tsm_handler'::regtype)
	GROUP BY proname`

// afterBase are functions and keywords that came with 14 or 15, the oldest versions that the
// list knows to differ from 13.
var afterBase = map[string]int{
	"array_subscript_handler": 14, "bit_count": 14, "bit_xor": 14, "date_bin": 14, "multirange": 14, "pg_column_compression": 14,
	"pg_get_backend_memory_contexts": 14, "pg_get_catalog_foreign_keys": 14, "pg_get_wal_replay_pause_state": 14,
	"pg_log_backend_memory_contexts": 14, "pg_stat_get_replication_slot": 14, "pg_stat_get_wal": 14, "pg_xact_commit_timestamp_origin": 14,
	"range_agg": 14, "range_intersect_agg": 14, "range_merge": 13, "string_to_table": 14, "trim_array": 14, "unistr": 14,
	"has_parameter_privilege": 15, "pg_database_collation_actual_version": 15, "pg_get_wal_resource_managers": 15,
	"pg_ident_file_mappings": 15, "pg_ls_logicalmapdir": 15, "pg_ls_logicalsnapdir": 15, "pg_ls_replslotdir": 15,
	"pg_settings_get_flags": 15, "pg_stat_force_next_flush": 15, "pg_stat_get_recovery_prefetch": 15, "pg_stat_have_stats": 15,
	"regexp_count": 15, "regexp_instr": 15, "regexp_like": 15, "regexp_substr": 15,
}

// since returns the version with which a function came, as far as the list must know: a
// name that a user of an older server may have taken.
func since(name string, major int) int {
	if v, ok := afterBase[name]; ok {
		return v
	}
	if strings.Contains(name, "multirange") {
		return 14
	}
	return major
}

// onServer returns the names that belong on the list, by a server's catalogue.
func onServer(t *testing.T, node *pgtest.Node) []string {
	t.Helper()
	rows, err := node.Query(t.Context(), callable)
	if err != nil {
		t.Fatal(err)
	}
	harmless := strings.Fields(volatileButHarmless)
	var names []string
	for row := range strings.Lines(rows) {
		name, by, _ := strings.Cut(strings.TrimSpace(row), "|")
		if by == "t" || slices.Contains(harmless, name) {
			names = append(names, name)
		}
	}
	words, err := node.Query(t.Context(), "SELECT word FROM pg_get_keywords() WHERE catcode = 'C'")
	if err != nil {
		t.Fatal(err)
	}
	for w := range strings.FieldsSeq(words) {
		if _, ok := keywords[w]; !ok && !slices.Contains(names, w) {
			names = append(names, w)
		}
	}
	if len(names) < 1500 {
		t.Fatalf("only %d functions found", len(names))
	}
	return names
}

func majorOf(t *testing.T, node *pgtest.Node) int {
	t.Helper()
	v, err := node.Query(t.Context(), "SELECT current_setting('server_version_num')::int / 10000")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestListedFunctionsAreBuiltInAndHarmless compares the list with the server's catalogue. A
// function of the server that isn't on the list is no fault: it marks the session.
func TestListedFunctionsAreBuiltInAndHarmless(t *testing.T) {
	node := server(t)
	major, names := majorOf(t, node), onServer(t, node)
	if *rewrite {
		rewriteList(t, major, names)
		return
	}
	for name := range builtinOf(major) {
		if !slices.Contains(names, name) {
			t.Errorf("%s is on the list, and isn't a harmless function of PostgreSQL %d", name, major)
		}
	}
	for _, name := range strings.Fields("set_config currval lastval setseed pg_advisory_lock pg_try_advisory_lock lo_open query_to_xml pg_export_snapshot") {
		if builtinOf(major)[name] {
			t.Errorf("%s is on the list", name)
		}
	}
}

// rewriteList adds the functions of this server, and removes what it doesn't have.
func rewriteList(t *testing.T, major int, names []string) {
	t.Helper()
	all := make(map[string]int)
	for line := range strings.Lines(builtinNames) {
		name, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, _ := strconv.Atoi(n)
		if name != "" && (v > major || slices.Contains(names, name)) {
			all[name] = v
		}
	}
	first := len(all) == 0
	for _, name := range names {
		if _, ok := all[name]; !ok {
			if all[name] = since(name, major); first && all[name] == major {
				all[name] = afterBase[name] // in the first list, nothing is new
			}
		}
	}
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(name)
		if all[name] > 13 {
			fmt.Fprintf(&b, " %d", all[name])
		}
		b.WriteByte('\n')
	}
	if err := os.WriteFile("builtin.txt", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReservedWordsAreThoseOfTheServer: a word that isn't one there could be a function.
func TestReservedWordsAreThoseOfTheServer(t *testing.T) {
	node := server(t)
	rows, err := node.Query(t.Context(), "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'C')")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(rows)
	for w, k := range keywords {
		if !k.functional() && !slices.Contains(words, w) {
			t.Errorf("%s isn't reserved", w)
		}
		if len(w) > longestKeyword {
			t.Errorf("%s is longer than what is looked up", w)
		}
	}
}
