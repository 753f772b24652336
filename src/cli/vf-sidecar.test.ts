// `vf serve` and `sidecar` as they are typed, in front of a VF server that only pretends.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { OperationError } from "../base/errors.ts";
import { fixtureEvents } from "../host/report-fixtures.ts";
import type { JobEnd } from "../host/vf-server/answers.ts";
import type { VfServerEvent } from "../host/vf-server/vf-server.ts";
import { FakeEnvironment } from "./fakes.ts";
import { runCli, type VfParts } from "./run-cli.ts";

type ServeOptions = Parameters<VfParts["serve"]>[0];
type Asked = Parameters<VfParts["ask"]>;

const never = { serve: () => assert.fail("served"), ask: () => assert.fail("asked") } satisfies VfParts;

async function underway(words: readonly string[], parts: Partial<VfParts> = {}, environment = new FakeEnvironment()) {
  const noExplorer = (): Promise<never> => assert.fail("explored");
  const noRunner = (): Promise<never> => assert.fail("migrated");
  const exitCode = await runCli(words, environment, noRunner, noExplorer, async () => ({ ...never, ...parts }));
  return { exitCode, stdout: environment.stdout.text, stderr: environment.stderr.text };
}

const failure = { code: "not-converging", message: "It did not.", advice: "Do otherwise.", facts: { rounds: 20 } };
const completed: JobEnd = {
  kind: "completed",
  bytesSent: 5_000_000,
  methods: { cpuDirtyLog: "qemu-migration", tracker: "iommu" },
};
const events = [...fixtureEvents()].filter(({ side }) => side === "source");
const source = "sidecar --vf /run/vf --qmp /run/qmp --to 127.0.0.1:4711".split(" ");

/** Plays a move, and keeps what was asked. */
function playing(end: JobEnd): { ask: VfParts["ask"]; asked: Asked[] } {
  const asked: Asked[] = [];
  return {
    asked,
    ask: async (...all) => {
      asked.push(all);
      const [, , { onEvent, onStage }] = all;
      onStage("Looking for the destination");
      for (const event of events) onEvent(event);
      return end;
    },
  };
}

const wrongUsage: readonly (readonly [words: string, complaint: RegExp])[] = [
  ["vf", /No command was given/],
  ["vf unserve", /Unknown command 'unserve'/],
  ["vf serve", /required option '--socket <PATH>' not specified/i],
  ["vf serve --socket a --uplink cable", /--uplink cannot be "cable"\. Use none, peer, passt, or unix:/],
  ["vf serve --socket a --uplink unix:", /--uplink cannot be/],
  ["vf serve --socket a --mac 1:2", /is not a MAC address/],
  ["vf serve --socket a --mac 01:00:00:00:00:01", /no address that a card can have/],
  ["vf serve --socket a --mac 00:00:00:00:00:00", /no address that a card can have/],
  ["vf serve --socket a --no-native --allow-unsealed-memory", /Give one of them/],
  ["sidecar --vf a", /takes one of --to, --listen and --take-back/],
  ["sidecar --qmp q --to h:1", /required option '--vf <PATH>' not specified/i],
  ["sidecar --vf a --qmp q --to localhost:1 --listen localhost:2", /takes one of/],
  ["sidecar --vf a --to localhost:1", /--qmp is missing/],
  ["sidecar --vf a --qmp q --to localhost", /--to cannot be "localhost"\. Write HOST:PORT/],
  ["sidecar --vf a --qmp q --to localhost:0", /--to cannot be/],
  ["sidecar --vf a --qmp q --to ::1:4711", /--to cannot be/],
  ["sidecar --vf a --qmp q --listen localhost:65536", /--listen cannot be/],
  ["sidecar --vf a --qmp q --to elsewhere.example:1", /in the clear.*tls-needed/],
  ["sidecar --vf a --qmp q --listen 0.0.0.0:1", /in the clear/],
  ["sidecar --vf a --qmp q --to localhost:1 --tls-ca x", /come together/],
  ["sidecar --vf a --qmp q --listen localhost:1 --strategy blind", /--strategy is for the source's side/],
  ["sidecar --vf a --take-back --record x", /--record is for the source's side/],
  ["sidecar --vf a --qmp q --to localhost:1 --strategy hope", /no strategy called "hope"/],
  ["sidecar --vf a --qmp q --to localhost:1 --strategy shuffle", /does not run on a QEMU/],
  ["sidecar --vf a --qmp q --to localhost:1 --downtime-limit 0", /--downtime-limit cannot be "0"/],
  ["sidecar --vf a --qmp q --to localhost:1 --bandwidth fast", /takes a rate/],
];
for (const [words, complaint] of wrongUsage) {
  test(`"underway ${words}" is wrong usage, and says why`, async () => {
    const { exitCode, stdout, stderr } = await underway(words.split(" "));
    assert.equal(exitCode, 64, stderr);
    assert.equal(stdout, "");
    assert.match(stderr.replace(/\s+/g, " "), complaint);
  });
}

/** Serves until it is interrupted, which is as soon as it serves. */
function serving(environment: FakeEnvironment, happens: readonly VfServerEvent[] = []) {
  const served: ServeOptions[] = [];
  let closed = 0;
  const serve: VfParts["serve"] = async (options) => {
    served.push(options);
    for (const event of happens) options.onEvent(event);
    setImmediate(() => {
      for (const listener of environment.interruptListeners) listener();
    });
    return { close: async () => void closed++ };
  };
  return { serve, served, closed: () => closed };
}

test("vf serve prints what QEMU needs and a line for each event, and ends well with Ctrl-C", async () => {
  const environment = new FakeEnvironment();
  const service = serving(environment, [
    { kind: "client-came" },
    { kind: "memory-shared", memoryBytes: 1 << 30 },
    { kind: "link", isUp: false, why: "the other end hung up" },
    { kind: "faults", count: 3, first: "a write of 60 bytes at 0x1000" },
    { kind: "job-began", job: "move" },
    { kind: "job-ended", job: "move", end: "resumed", why: "The migration was cancelled." },
    { kind: "client-gone", problem: "it sent a message of 12 bytes" },
    { kind: "client-gone", problem: undefined },
  ]);
  const words = ["vf", "serve", "--socket", "/run/it's/vf", "--uplink", "unix:/run/port"];
  const { exitCode, stdout, stderr } = await underway(words, service, environment);
  assert.equal(exitCode, 0, stderr);
  assert.equal(service.closed(), 1);
  assert.equal(environment.interruptListeners.size, 0);
  const { onEvent: _, ...options } = service.served[0] ?? assert.fail("not served");
  assert.deepEqual(options, {
    socketPath: "/run/it's/vf",
    controlPath: "/run/it's/vf.control",
    mac: "02:00:0a:00:02:0f",
    uplink: { kind: "unix", path: "/run/port" },
    isNative: true,
    allowUnsealed: false,
  });
  assert.ok(
    stdout.includes(
      String.raw`-device '{"driver":"vfio-user-pci","id":"vf0","socket":{"type":"unix","path":"/run/it'\''s/vf"}}'`,
    ),
  );
  assert.match(stdout, /-object memory-backend-memfd,id=ram,size=1G,share=on\n/);
  for (const line of [
    "A client has come.",
    "Its memory is shared: 1.00 GiB. Its guest can be moved.",
    "The link is down: the other end hung up.",
    "3 DMA accesses went nowhere, the first of them a write of 60 bytes at 0x1000.",
    "A sidecar moves the guest away.",
    "The guest runs on here, with its card: The migration was cancelled.",
    "The client was cut off: it sent a message of 12 bytes.",
    "The client has gone.",
  ]) {
    assert.ok(stdout.includes(`00:00:00  ${line}\n`), line);
  }
});

test("vf serve --json prints one object a line, one of them with the socket and QEMU's options", async () => {
  const environment = new FakeEnvironment();
  const service = serving(environment, [{ kind: "client-came" }]);
  const words = "vf serve --socket /run/vf --no-native --control /run/c --json".split(" ");
  const { exitCode, stdout, stderr } = await underway(words, service, environment);
  assert.deepEqual([exitCode, stderr], [0, ""]);
  const lines = stdout.trimEnd().split("\n");
  const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    objects.map((object) => object["kind"]),
    ["client-came", "serving"],
  );
  const first = objects.find((object) => object["kind"] === "serving");
  assert.deepEqual([first?.["controlPath"], first?.["isNative"]], ["/run/c", false]);
  assert.match(JSON.stringify(first?.["qemuArguments"]), /q35,memory-backend=ram/);
});

test("vf serve that cannot says why, with exit code 1", async () => {
  const serve = (): Promise<never> =>
    Promise.reject(new OperationError({ code: "socket-in-use", message: "It is taken.", advice: "Choose another." }));
  const { exitCode, stderr } = await underway(["vf", "serve", "--socket", "/run/vf"], { serve });
  assert.equal(exitCode, 1);
  assert.match(stderr, /It is taken\. Choose another\.\nsocket-in-use/);
});

test("sidecar --to asks the server beside the VF's socket for the move, and reports how it went", async () => {
  const played = playing(completed);
  const words = [...source, "--device", "vf0", "--bandwidth", "1G", "--strategy", "quiesce", "--json"];
  const { exitCode, stdout, stderr } = await underway(words, played);
  assert.equal(exitCode, 0, stderr);
  const [controlPath, request] = played.asked[0] ?? assert.fail("not asked");
  assert.equal(controlPath, "/run/vf.control");
  const move = {
    qmp: "/run/qmp",
    device: "vf0",
    to: { host: "127.0.0.1", port: 4711 },
    strategy: "quiesce",
    downtimeLimitMs: 100,
    bandwidthBytesPerSecond: 125_000_000,
    roundsMax: 20,
    ifNotConverging: "switch-over",
  };
  assert.deepEqual(request, { move });
  const report = JSON.parse(stdout) as Record<string, unknown>;
  assert.deepEqual(
    [report["outcome"], report["audited"], report["bytesSent"], report["options"]],
    ["completed", false, 5_000_000, move],
  );
  assert.equal((report["rounds"] as unknown[]).length, 3);
  const { total, pages } = report["downtimeMs"] as Record<string, number>;
  assert.ok(total !== undefined && total > 0 && pages !== undefined && pages > 0);
  assert.match(stderr, /round 1/);
});

test("the report for a person says that nothing was audited, where the time went and what to do with the source", async () => {
  const { exitCode, stdout } = await underway(source, playing(completed));
  assert.equal(exitCode, 0);
  const text = stdout.replace(/\s+/g, " ");
  assert.match(text, /The guest runs on the destination\. Not audited/);
  assert.match(text, /It moved to 127\.0\.0\.1 port 4711 with strategy rings-first, in 3 rounds and a switchover/);
  assert.match(text, /Where the .* went CPUs come to a stop/);
  assert.match(text, /The source's QEMU stands still and will not run the guest again: end it\./);
  for (const line of stdout.split("\n")) assert.ok(line.length <= 82, line);
});

test("sidecar --listen says when the guest is there, --take-back that it runs here again", async () => {
  const listening = playing({ kind: "arrived" });
  const words = "sidecar --vf /run/vf --qmp /run/qmp --listen [::1]:0".split(" ");
  const arrived = await underway(words, listening);
  assert.equal(arrived.exitCode, 0);
  assert.match(arrived.stdout, /The guest runs here, and its address was announced\./);
  assert.match(arrived.stderr, /A guest comes in/);
  assert.deepEqual(listening.asked[0]?.[1], { expect: { qmp: "/run/qmp", at: { host: "::1", port: 0 } } });
  const takingBack = playing({ kind: "taken-back" });
  const back = await underway("sidecar --vf /run/vf --take-back --json".split(" "), takingBack);
  assert.deepEqual([back.exitCode, JSON.parse(back.stdout)], [0, { outcome: "taken-back" }]);
  assert.deepEqual(takingBack.asked[0]?.[1], { takeBack: {} });
});

test("between hosts the request has the three files, as paths from the root", async () => {
  const played = playing(completed);
  const words = "sidecar --vf /v --qmp /q --to b.example:4711 --tls-ca /ca --tls-cert /cert --tls-key key".split(" ");
  assert.equal((await underway(words, played)).exitCode, 0);
  const request = played.asked[0]?.[1];
  assert.ok(request !== undefined && "move" in request);
  assert.deepEqual(request.move.tls, { ca: "/ca", certificate: "/cert", key: path.resolve("key") });
});

for (const kind of ["resumed", "outcome-unknown", "discarded"] as const) {
  test(`an end that is ${kind} has exit code 1 and the failure's words, as text and as JSON`, async () => {
    const plain = await underway(source, playing({ kind, failure }));
    assert.equal(plain.exitCode, 1);
    assert.match(
      plain.stderr.replace(/\s+/g, " "),
      /Not carried out\. It did not\. Do otherwise\. not-converging, rounds: 20/,
    );
    const json = await underway([...source, "--json"], playing({ kind, failure }));
    assert.deepEqual([json.exitCode, JSON.parse(json.stdout)], [1, { error: failure }]);
  });
}

test("the first interrupt cancels and waits, the second leaves", async () => {
  const environment = new FakeEnvironment();
  const interrupt = (): void => {
    for (const listener of environment.interruptListeners) listener();
  };
  const ask: VfParts["ask"] = async (_path, _request, { signal }) => {
    interrupt();
    assert.ok(signal.aborted);
    environment.clock.advance(1000);
    interrupt();
    return { kind: "resumed", failure };
  };
  const { exitCode, stderr } = await underway(source, { ask }, environment);
  assert.deepEqual([exitCode, environment.left, environment.interruptListeners.size], [1, [130], 0]);
  assert.match(stderr, /Cancelling; the guest stays where it runs/);
});

test("a recording of a sidecar has the header with what was asked for, and every event", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "underway-recording-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "run.ndjson");
  assert.equal((await underway([...source, "--record", file], playing(completed))).exitCode, 0);
  const [header, ...recorded] = (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.match(JSON.stringify(header?.["options"]), /"qmp":"\/run\/qmp"/);
  assert.deepEqual(recorded, events);
});
