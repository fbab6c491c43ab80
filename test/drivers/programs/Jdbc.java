// JDBC: the driver's own factory of sockets checks authority and name, as libpq does.
import java.io.*;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;

public class Jdbc {
    static final BufferedReader in = new BufferedReader(new InputStreamReader(System.in));

    static void say(String step, Object what) {
        System.out.println(step + " " + what.toString().replaceAll("\\s+", " "));
        System.out.flush();
    }

    static Connection connect(String password, String ca) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", password);
        p.setProperty("sslmode", "verify-full");
        p.setProperty("sslrootcert", System.getenv(ca));
        return DriverManager.getConnection("jdbc:postgresql://localhost:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void fails(String step, String password, String ca) {
        try (Connection c = connect(password, ca)) { say(step, "let in"); }
        catch (SQLException e) { say(step, e.getMessage() + " " + e.getCause()); }
    }

    static String one(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) { r.next(); return r.getString(1); }
    }

    static String cancelled(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            Thread canceller = new Thread(() -> {
                try { in.readLine(); s.cancel(); } catch (Exception e) { throw new RuntimeException(e); }
            });
            say("sleeping", "");
            canceller.start();
            try { s.executeQuery("SELECT pg_sleep(600) /* " + System.getenv("NAME") + " */"); return "it ended"; }
            catch (SQLException e) { canceller.join(); return e.getMessage(); }
        }
    }

    public static void main(String[] args) throws Exception {
        String password = System.getenv("PGPASSWORD");
        Connection c = connect(password, "CA");
        say("login", one(c, "SELECT session_user"));
        fails("wrong-password", "wrong", "CA");
        fails("wrong-ca", password, "WRONG_CA");

        int sum = 0; // prepared on the server from the fifth execution on
        try (PreparedStatement q = c.prepareStatement("SELECT ?::int * 2")) {
            for (int i = 1; i <= 10; i++) {
                q.setInt(1, i);
                try (ResultSet r = q.executeQuery()) { r.next(); sum += r.getInt(1); }
            }
        }
        say("prepared", sum);
        say("cancel", cancelled(c));

        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) { s.execute("CREATE TEMP TABLE c (i int) ON COMMIT DROP"); }
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 100; i++) rows.append(i).append('\n');
        c.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY c FROM STDIN", new StringReader(rows.toString()));
        say("copy", one(c, "SELECT count(*) FROM c"));
        c.commit();
        c.setAutoCommit(true);

        say("ready", "");
        if ("failover".equals(in.readLine())) {
            try { one(c, "SELECT 1"); say("lost", "-"); }
            catch (SQLException e) { say("lost", e.getMessage()); c = connect(password, "CA"); }
            say("after", one(c, "SELECT inet_server_port()"));
        }
    }
}
