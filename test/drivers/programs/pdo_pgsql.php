<?php
// PDO: verify-full and the right authority come from the environment. PDO can't cancel a statement.

function say($step, $what = "") { echo trim($step . " " . preg_replace('/\s+/', " ", $what)), "\n"; }

function dial($password = null, $more = "") {
    return new PDO("pgsql:host=localhost" . $more, getenv("PGUSER"), $password ?? getenv("PGPASSWORD"));
}

function fails($step, $password, $more) {
    try { dial($password, $more); say($step, "let in"); } catch (PDOException $e) { say($step, $e->getMessage()); }
}

function one($c, $sql) { return $c->query($sql)->fetchColumn(); }

$c = dial();
say("login", one($c, "SELECT session_user"));
fails("wrong-password", "wrong", "");
fails("wrong-ca", null, ";sslrootcert=" . getenv("WRONG_CA"));

$sum = 0;
$q = $c->prepare("SELECT ?::int * 2");
for ($i = 1; $i <= 10; $i++) { $q->execute([$i]); $sum += $q->fetchColumn(); }
say("prepared", $sum);
say("cancel", "-");

$c->beginTransaction();
$c->exec("CREATE TEMP TABLE c (i int) ON COMMIT DROP");
$c->pgsqlCopyFromArray("c", array_map("strval", range(1, 100)));
say("copy", one($c, "SELECT count(*) FROM c"));
$c->commit();

say("ready");
if (trim(fgets(STDIN)) === "failover") {
    try { one($c, "SELECT 1"); say("lost", "-"); } catch (PDOException $e) { say("lost", $e->getMessage()); $c = dial(); }
    say("after", one($c, "SELECT inet_server_port()"));
}
