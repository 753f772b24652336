import assert from "node:assert/strict";
import { duplexPair, type Duplex } from "node:stream";
import { test } from "node:test";
import { migratePlainly, type MigrationPass, type PlainMigration } from "./plain-migration.ts";
import { QmpClient } from "./qmp.ts";

type Arguments = Readonly<Record<string, unknown>>;

/** One end of a migration: answers commands, says what it is told to, and keeps what it was asked. */
class ScriptedQemu {
  readonly asked: { readonly command: string; readonly given: Arguments }[] = [];
  readonly qmp: Promise<QmpClient>;
  /** What `query-migrate` tells. */
  migration: Arguments = {};
  onCommand: (command: string) => void = () => {};
  readonly #far: Duplex;

  constructor() {
    const [near, far] = duplexPair();
    this.#far = far;
    far.write('{"QMP":{"version":{"qemu":{"major":11,"minor":1,"micro":2},"package":""},"capabilities":[]}}\n');
    let text = "";
    far.setEncoding("utf8").on("data", (more: string) => {
      const lines = (text + more).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line) as { execute: string; arguments?: Arguments; id: number });
    });
    this.qmp = QmpClient.over(near, "scripted");
  }

  says(event: string, data: Arguments = {}, seconds = 0): void {
    const timestamp = { seconds, microseconds: 500_000 };
    this.#far.write(`${JSON.stringify({ event, data, timestamp })}\n`);
  }

  ends(status: string, more: Arguments = {}): void {
    this.migration = { ...this.migration, status, ...more };
    this.says("MIGRATION", { status });
  }

  dies(): void {
    this.#far.end();
  }

  given(command: string): Arguments[] {
    return this.asked.filter((one) => one.command === command).map(({ given }) => given);
  }

  #take({ execute: command, arguments: given = {}, id }: { execute: string; arguments?: Arguments; id: number }): void {
    this.asked.push({ command, given });
    const answer = command === "query-migrate" ? this.migration : {};
    this.#far.write(`${JSON.stringify({ id, return: answer })}\n`);
    this.onCommand(command);
  }
}

class Site {
  readonly source = new ScriptedQemu();
  readonly destination = new ScriptedQemu();
  readonly passes: MigrationPass[] = [];
  readonly cancelling = new AbortController();

  constructor() {
    this.destination.migration = { "socket-address": [{ type: "inet", host: "127.0.0.1", port: "4711" }] };
  }

  async migrate(
    more: { passesMax?: number; ifNotConverging?: "switch-over" | "give-up" } = {},
  ): Promise<PlainMigration> {
    return migratePlainly({
      source: await this.source.qmp,
      destination: await this.destination.qmp,
      downtimeLimitMs: 100,
      bandwidthBytesPerSecond: 1e6,
      passesMax: 20,
      ifNotConverging: "switch-over",
      ...more,
      onPass: (pass) => this.passes.push(pass),
      signal: this.cancelling.signal,
    });
  }

  /** The source begins a pass, having sent and found so much until then. */
  pass(number: number, pages: number, dirty: number): void {
    const ram = { transferred: pages * 4100, normal: pages, duplicate: pages * 2, remaining: dirty * 4096 };
    this.source.migration = { status: "active", ram, "expected-downtime": dirty };
    this.source.says("MIGRATION_PASS", { pass: number });
  }
}

test("QEMU is told limit, bandwidth and where to, the destination to run at once; what it then says is the result", async () => {
  const site = new Site();
  const { source, destination } = site;
  let began = 0;
  source.onCommand = (command) => {
    if (command === "migrate") site.pass(++began, 0, 1000);
    if (command === "query-migrate" && began === 1) site.pass(++began, 900, 50);
    else if (command === "query-migrate" && began === 2) {
      began++;
      source.says("STOP", {}, 100);
      source.ends("completed", { downtime: 20, "total-time": 463 });
      destination.says("RESUME", {}, 101);
    }
  };
  assert.deepEqual(await site.migrate(), {
    stoppedAtMs: 100_500,
    resumedAtMs: 101_500,
    downtimeMs: 20,
    totalMs: 463,
    bytesSent: 900 * 4100,
  });
  assert.deepEqual(source.given("migrate-set-parameters"), [{ "max-bandwidth": 1e6, "downtime-limit": 100 }]);
  assert.deepEqual(source.given("migrate"), [{ uri: "tcp:127.0.0.1:4711" }]);
  assert.equal(destination.given("cont").length, 1);
  assert.deepEqual(site.passes, [
    { pass: 1, pages: 900, zeroPages: 1800, bytes: 900 * 4100, dirtyAfter: 50, expectedDowntimeMs: 50 },
  ]);
});

test("a migration that fails says why in QEMU's words", async () => {
  const site = new Site();
  site.source.onCommand = (command) => {
    if (command === "migrate") site.source.ends("failed", { "error-desc": "no route" });
  };
  await assert.rejects(site.migrate(), { code: "qemu-migration-failed", message: /no route/ });
});

test("a migration that is cancelled, before it begins or under way, tells QEMU so", async () => {
  for (const early of [true, false]) {
    const site = new Site();
    if (early) site.cancelling.abort();
    site.source.onCommand = (command) => {
      if (command === "migrate" && !early) site.cancelling.abort();
      if (command === "migrate_cancel") site.source.ends("cancelled");
    };
    await assert.rejects(site.migrate(), { code: "cancelled" });
  }
});

test("after the last pass allowed QEMU switches over whatever is dirty, or gives up, as it is told", async () => {
  for (const ifNotConverging of ["switch-over", "give-up"] as const) {
    const site = new Site();
    const { source, destination } = site;
    let last = 0;
    source.onCommand = (command) => {
      if (command === "migrate") site.pass(++last, 0, 1000);
      if (command === "query-migrate" && last < 3) site.pass(++last, last * 10, 1000);
      if (command === "migrate_cancel") source.ends("cancelled");
      if (command !== "migrate-set-parameters" || source.given(command).length < 2) return;
      source.says("STOP", {}, 100);
      source.ends("completed", { downtime: 900 });
      destination.says("RESUME", {}, 101);
    };
    const moving = site.migrate({ passesMax: 2, ifNotConverging });
    if (ifNotConverging === "give-up") await assert.rejects(moving, { code: "not-converging", facts: { passes: 2 } });
    else assert.equal((await moving).downtimeMs, 900);
  }
});

test("a QEMU that dies, whichever it is, fails the migration", async () => {
  for (const side of ["source", "destination"] as const) {
    const site = new Site();
    site.source.onCommand = (command) => {
      if (command === "migrate") site[side].dies();
    };
    await assert.rejects(site.migrate(), { code: "qmp-closed" });
  }
});
