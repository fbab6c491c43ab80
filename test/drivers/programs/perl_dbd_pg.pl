# DBD::Pg: verify-full and the right authority come from the environment.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:async);

$| = 1;

sub say { my ($step, $what) = @_; print join(" ", $step, split(" ", $what // "")), "\n"; }
sub dial { return DBI->connect("dbi:Pg:" . ($_[0] // ""), $ENV{PGUSER}, $_[1] // $ENV{PGPASSWORD}, { RaiseError => 1, PrintError => 0, AutoCommit => 1 }); }
sub fails { my ($step, @how) = @_; say($step, eval { dial(@how) } ? "let in" : $@); }

my $c = dial();
say("login", $c->selectrow_array("SELECT session_user"));
fails("wrong-password", "", "wrong");
fails("wrong-ca", "sslrootcert=$ENV{WRONG_CA}");

my $sum = 0;
my $q = $c->prepare("SELECT ?::int * 2", { pg_prepare_now => 1 });
for my $i (1 .. 10) { $q->execute($i); $sum += ($q->fetchrow_array)[0]; }
say("prepared", $sum);
$q = undef;

$c->do("SELECT pg_sleep(600) /* $ENV{NAME} */", { pg_async => PG_ASYNC });
say("sleeping");
<STDIN>;
say("cancel", $c->pg_cancel ? "pg_cancel" : "it ended"); # the server's message isn't shown

$c->begin_work;
$c->do("CREATE TEMP TABLE c (i int) ON COMMIT DROP");
$c->do("COPY c FROM STDIN");
$c->pg_putcopydata("$_\n") for 1 .. 100;
$c->pg_putcopyend;
say("copy", $c->selectrow_array("SELECT count(*) FROM c"));
$c->commit;

say("ready");
if ((<STDIN> // "") eq "failover\n") {
    if (eval { $c->do("SELECT 1") }) { say("lost", "-"); }
    else { say("lost", $@); $c = dial(); }
    say("after", $c->selectrow_array("SELECT inet_server_port()"));
}
