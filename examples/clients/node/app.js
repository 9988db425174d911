// node-postgres (pg) through the VIP, with its pool.
//
//     node app.js tour      # each thing once: a transaction, prepared statements, COPY, a cancel, a read
//     node app.js listen    # LISTEN and NOTIFY; wants pooling.mode = "session"
//     node app.js write     # orders until ^C, through failovers; each line is an order that was acknowledged
//
// Where and who comes from PGHOST, PGDATABASE, PGUSER, PGSSLROOTCERT and PGPASSFILE.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import pgpass from "pgpass";

const { PGHOST: host, PGDATABASE: database, PGUSER: user } = process.env;
const WRITE_PORT = Number(process.env.PGPORT ?? 5000);
const READ_PORT = Number(process.env.READ_PORT ?? 5001);
const TABLE = `
  CREATE TABLE IF NOT EXISTS node_orders (
    id text PRIMARY KEY, item text NOT NULL, quantity integer NOT NULL, placed timestamptz NOT NULL DEFAULT now()
  )`;
const PLACE = "INSERT INTO node_orders (id, item, quantity) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
// A server that is being ended, or is no primary any more.
const PASSING = new Set(["57P01", "57P02", "57P03", "25006"]);

const settings = (port) => ({
  port,
  password: () => new Promise((found) => pgpass({ host, port, database, user }, found)), // from PGPASSFILE
  ssl: { ca: readFileSync(process.env.PGSSLROOTCERT, "utf8") }, // the cluster's authority; the address is checked too
  connectionTimeoutMillis: 3000, // an attempt that got lost is soon repeated
  keepAlive: true,
  keepAliveInitialDelayMillis: 2000,
  query_timeout: 10000, // for what was sent and nobody confirms: there the kernel's own patience is minutes
  application_name: "orders",
});

// Small, since the cluster has a pool too.
function poolOf(port) {
  const pool = new pg.Pool({ ...settings(port), max: 5, idleTimeoutMillis: 60000, maxLifetimeSeconds: 1800 });
  pool.on("error", (error) => console.error(`an idle connection broke: ${error.message}`)); // or the program would end
  return pool;
}

// Tell whether another attempt may succeed: the connection broke (08, or no SQLSTATE at all), or 40, a conflict.
function passes(error) {
  const state = error instanceof pg.DatabaseError ? error.code : undefined;
  return state === undefined || /^(08|40)/.test(state) || PASSING.has(state);
}

// Do something until it succeeds; it has to be harmless to do it twice.
async function persist(work, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (let delay = 50; ; delay = Math.min(2 * delay, 1000)) {
    try {
      return await work();
    } catch (error) {
      if (!passes(error) || Date.now() > deadline) throw error;
      console.error(`again, after: ${error.message}`);
    }
    await pause(delay * (0.5 + Math.random() / 2));
  }
}

// Run a transaction; a connection that broke in it does not go back into the pool.
async function inTransaction(pool, work) {
  const client = await pool.connect();
  const broken = (error) => console.error(`a connection broke: ${error.message}`);
  client.on("error", broken);
  let failure;
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    failure = error;
    if (!passes(error)) await client.query("ROLLBACK").then(() => (failure = undefined), () => {});
    throw error;
  } finally {
    client.off("error", broken);
    client.release(failure);
  }
}

// Place an order; the second time nothing happens, since its id is there already.
const place = (pool, order) => inTransaction(pool, (client) => client.query(PLACE, [order, "tea", 1]));

// Place orders until the program is told to end.
async function write(pool) {
  let stopped = false;
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => (stopped = true));
  const run = randomUUID().slice(0, 8);
  for (let number = 1; !stopped; number++) {
    const order = `${run}-${number}`; // chosen before the first attempt: all attempts are about the same order
    await persist(() => place(pool, order));
    console.log(order);
    await pause(20);
  }
}

// Change two rows or none.
async function transact(pool) {
  const first = randomUUID();
  const both = inTransaction(pool, async (client) => {
    await client.query(PLACE, [first, "tea", 1]);
    await client.query(PLACE, [randomUUID(), "no number", "many"]);
  });
  await assert.rejects(both, { code: "22P02" });
  const { rows } = await pool.query("SELECT count(*)::int FROM node_orders WHERE id = $1", [first]);
  assert.equal(rows[0].count, 0);
  return "an error took both rows back";
}

// Have the server plan a statement once: a name is all that pg needs; PgBouncer sees that every server knows it.
async function prepare(pool) {
  const client = await pool.connect();
  try {
    for (let number = 0; number < 20; number++) { // each is a transaction, and may be on another server connection
      const query = { name: "next", text: "SELECT $1::int + 1 AS next", values: [number] };
      assert.equal((await client.query(query)).rows[0].next, number + 1);
    }
  } finally {
    client.release();
  }
  return "20 transactions with one prepared statement";
}

// Load many rows, and get them out again. Not by the pool: its query_timeout would be for a whole COPY.
async function copy() {
  const batch = randomUUID();
  const lines = Array.from({ length: 1000 }, (_, number) => `${batch}-${number}\tcoffee\t${number}\n`);
  const client = new pg.Client({ ...settings(WRITE_PORT), query_timeout: 0 });
  await client.connect();
  try {
    await pipeline(Readable.from(lines), client.query(copyFrom("COPY node_orders (id, item, quantity) FROM STDIN")));
    const query = `COPY (SELECT quantity FROM node_orders WHERE id LIKE '${batch}-%') TO STDOUT`;
    let text = "";
    for await (const chunk of client.query(copyTo(query))) text += chunk;
    const total = text.trim().split("\n").reduce((sum, line) => sum + Number(line), 0);
    assert.equal(total, (999 * 1000) / 2);
  } finally {
    await client.end();
  }
  return "1000 rows in and out";
}

// Lose patience with a query.
async function cancel(pool) {
  const client = await pool.connect();
  try {
    const query = new pg.Query("SELECT pg_sleep(60)");
    let error;
    query.callback = (failure) => (error = failure);
    client.query(query);
    do {
      await pause(500);
      const canceller = new pg.Client(settings(WRITE_PORT));
      canceller.connection.on("error", () => {}); // the pooler closes the connection, and has nothing to say
      canceller.cancel(client, query);
    } while (error === undefined);
    assert.equal(error?.code, "57014", error);
  } finally {
    client.release();
  }
  return "a query of a minute ended early";
}

// Ask the port for reads, whose answer may be some moments old.
async function read(pool) {
  const { rows } = await pool.query("SELECT pg_is_in_recovery() AS standby, count(*) FROM node_orders");
  return `${rows[0].count} orders, says a ${rows[0].standby ? "standby" : "primary"}`;
}

// Hear of an order from another connection; each of the two keeps its server connection.
async function listen() {
  const [listener, speaker] = [new pg.Client(settings(WRITE_PORT)), new pg.Client(settings(WRITE_PORT))];
  try {
    await Promise.all([listener.connect(), speaker.connect()]);
    const heard = once(listener, "notification", { signal: AbortSignal.timeout(10000) });
    await listener.query("LISTEN orders");
    await speaker.query("SELECT pg_notify('orders', 'an order of tea')");
    const [notice] = await heard;
    return notice.payload;
  } finally {
    await Promise.all([listener.end(), speaker.end()]);
  }
}

async function main(command = "tour") {
  if (command === "listen") {
    console.log(`listen: ${await listen()}`);
    return;
  }
  const [writes, reads] = [poolOf(WRITE_PORT), poolOf(READ_PORT)];
  await persist(() => writes.query(TABLE));
  if (command === "write") {
    await write(writes);
  } else {
    for (const step of [transact, prepare, copy, cancel]) console.log(`${step.name}: ${await step(writes)}`);
    console.log(`read: ${await read(reads)}`);
  }
  await Promise.all([writes.end(), reads.end()]);
}

await main(process.argv[2]);
