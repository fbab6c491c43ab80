// node-postgres: node's TLS checks authority and name. COPY needs a further module, so it isn't tried.
const fs = require("fs");
const readline = require("readline");
const { Client, Query } = require("pg");

const say = (step, what = "") => console.log(step, String(what).split(/\s+/).join(" "));

function client(options = {}) {
  const ca = fs.readFileSync(options.ca || process.env.CA);
  const c = new Client({ ssl: { ca }, ...options });
  c.on("error", (e) => { c.lost = e; });
  return c;
}

async function connect(options) {
  const c = client(options);
  await c.connect();
  return c;
}

async function fails(step, options) {
  try {
    await connect(options);
    say(step, "let in");
  } catch (e) {
    say(step, e.message);
  }
}

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async () => (await lines.next()).value;

// cancelled begins a statement, cancels it when told, and returns its error. Client.cancel opens a connection without
// TLS, as libpq did before PostgreSQL 17.
function cancelled(c) {
  return new Promise((resolve) => {
    const q = new Query(`SELECT pg_sleep(600) /* ${process.env.NAME} */`, (e) => resolve(e));
    c.query(q);
    say("sleeping");
    told().then(() => new Client({}).cancel(c, q));
  });
}

async function main() {
  let c = await connect();
  const one = async (sql, values, name) => (await c.query({ text: sql, values, name, rowMode: "array" })).rows[0][0];
  say("login", await one("SELECT session_user"));
  await fails("wrong-password", { password: "wrong" });
  await fails("wrong-ca", { ca: process.env.WRONG_CA });
  let sum = 0;
  for (let i = 1; i <= 10; i++) sum += await one("SELECT $1::int * 2", [i], "p");
  say("prepared", sum);
  say("cancel", (await cancelled(c)).message);
  say("copy", "-");
  say("ready");
  if ((await told()) === "failover") {
    try {
      if (c.lost) throw c.lost;
      await c.query("SELECT 1");
      say("lost", "-");
    } catch (e) {
      say("lost", e.message);
      c = await connect();
    }
    say("after", await one("SELECT inet_server_port()"));
  }
  process.exit(0);
}

main().catch((e) => { console.error(e); process.exit(1); });
