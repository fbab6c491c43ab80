# ruby-pg: verify-full and the right authority come from the environment.
require "pg"

$stdout.sync = true

def say(step, what = "") = puts([step, *what.to_s.split].join(" "))

def fails(step, **options)
  PG.connect(**options)
  say(step, "let in")
rescue PG::Error => e
  say(step, e.message)
end

c = PG.connect
say("login", c.exec("SELECT session_user").getvalue(0, 0))
fails("wrong-password", password: "wrong")
fails("wrong-ca", sslrootcert: ENV.fetch("WRONG_CA"))

c.prepare("p", "SELECT $1::int * 2")
say("prepared", (1..10).sum { |i| c.exec_prepared("p", [i]).getvalue(0, 0).to_i })

say("sleeping")
canceller = Thread.new { $stdin.gets; c.cancel }
begin
  c.exec("SELECT pg_sleep(600) /* #{ENV.fetch("NAME")} */")
rescue PG::QueryCanceled => e
  say("cancel", e.message)
end
canceller.join

c.transaction do
  c.exec("CREATE TEMP TABLE c (i int) ON COMMIT DROP")
  c.copy_data("COPY c FROM STDIN") { 100.times { |i| c.put_copy_data("#{i}\n") } }
  say("copy", c.exec("SELECT count(*) FROM c").getvalue(0, 0))
end

say("ready")
if $stdin.gets&.chomp == "failover"
  begin
    c.exec("SELECT 1")
    say("lost", "-")
  rescue PG::Error => e
    say("lost", e.message)
    c = PG.connect
  end
  say("after", c.exec("SELECT inet_server_port()").getvalue(0, 0))
end
