# Completion of pgagroal-cli for fish, made from its commands and options by
# go test ./cmd/pgagroal-cli -run Completions -rewrite

function __pgagroal_cli_servers
    pgagroal-cli --format tree ping 2>/dev/null | sed -n '/^  Servers:/,/^[^ ]/s/^    \([^ ]*\):$/\1/p'
end

complete -c pgagroal-cli -f
complete -c pgagroal-cli -l config -s c -r -F -d 'main configuration FILE; unix_socket_dir and port are taken from it (default, /etc/pgagroal/pgagroal.conf)'
complete -c pgagroal-cli -l socket -r -F -d 'control socket PATH, instead of a configuration'
complete -c pgagroal-cli -l format -s F -x -a 'text tree json raw' -d 'text, tree (all fields as indented text), json, or raw (json with numbers for names)'
complete -c pgagroal-cli -l color -x -a 'auto always never' -d 'colours of the text, WHEN is auto, always or never (default, auto, which is on a terminal, unless NO_COLOR is set)'
complete -c pgagroal-cli -l timeout -s T -x -d 'TIME after which a graceful shutdown becomes immediate, 0 for never (default, flush_timeout), or that switch-to waits for transactions (default, 10s), 30, 30s, 5m, 1h, 2d, 1w'
complete -c pgagroal-cli -l force -d 'for switch-to, clear and failover trigger, do it although it looks unsafe'
complete -c pgagroal-cli -l to -x -a '(__pgagroal_cli_servers)' -d 'for failover trigger, the SERVER to promote (default, the best one)'
complete -c pgagroal-cli -l primary -d 'for ping, exit code 3 unless a primary can be reached'
complete -c pgagroal-cli -l write -d 'for ping, exit code 3 unless clients can connect and write now'
complete -c pgagroal-cli -l once -d 'for top, print the view once, after a second, and end'
complete -c pgagroal-cli -l persist -d 'for conf set, keep the value, in auto.conf of state_dir'
complete -c pgagroal-cli -l logfile -s L -r -F -d 'append messages to FILE as well'
complete -c pgagroal-cli -l verbose -s v -d 'end with a line that tells the outcome'
complete -c pgagroal-cli -l version -s V -d 'print the version'
complete -c pgagroal-cli -l help -d 'print this text'

set -l commands ping status shutdown switch-to clear enable disable conf failover top flush
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a ping -d 'tell whether pgagroal answers and which servers can be reached'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a status -d 'tell the state of pgagroal, its servers and connections'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from status' -a 'details'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a shutdown -d 'stop pgagroal, gracefully unless told otherwise, or take a graceful shutdown back'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from shutdown' -a 'gracefully immediate cancel'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a switch-to -d 'switch over to a standby as planned, or follow a switchover made by hand'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from switch-to' -a '(__pgagroal_cli_servers)'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a clear -d 'make a Failed server usable again'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from clear' -a 'server (__pgagroal_cli_servers)'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a enable -d 'let new clients of a database in again'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from enable' -a 'all'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a disable -d 'refuse new clients of a database'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from disable' -a 'all'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a conf -d 'tell the files in use or the configuration in effect, change a value, or read the files again'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from conf' -a 'ls get set reset alias reload'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a failover -d 'tell the state of the failover or what it did, stop and continue it, order or rehearse one'
complete -c pgagroal-cli -n '__fish_seen_subcommand_from failover' -a 'status history pause resume reset trigger rehearse'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a top -d 'show servers, failover, traffic, pools and clients, live'
complete -c pgagroal-cli -n "not __fish_seen_subcommand_from $commands" -a flush -d 'not available in this version'
