// Two real QEMUs that nobody of ours started, moved by two sidecars: what docs/QEMU.md promises, over the program itself.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { TestCertificates } from "../src/host/tls-certificates.fixture.ts";
import { networkPlan } from "../src/network/plan.ts";
import { bringUp, inGuest, needed, Site, underway, type Running } from "./sidecar/hosts.ts";

/** After a move pings go on for this long, and an answer is waited for as long. */
const PINGED_MS = 1000;

async function listeningPort(sidecar: Running): Promise<string> {
  await sidecar.untilItSays(/Waiting for a guest at 127\.0\.0\.1:\d+/);
  return /127\.0\.0\.1:(\d+)/.exec(sidecar.said)?.[1] ?? "";
}

/** Gives the port of a link to `port` that is cut, and not to be had again, when the source answers to `ready`. */
async function linkThatBreaksBeforeGo(t: TestContext, port: number): Promise<number> {
  const sockets: Socket[] = [];
  const server = createServer((source) => {
    const destination = connect(port, "127.0.0.1");
    sockets.push(source, destination);
    for (const socket of [source, destination]) socket.on("error", () => {}).setNoDelay(true);
    // hello-ack, accept and ready; what the source says then is `go`.
    let answers = 0;
    destination.on("data", (chunk: Uint8Array) => {
      answers++;
      source.write(chunk);
    });
    source.on("data", (chunk: Uint8Array) => {
      if (answers < 3) destination.write(chunk);
      else close();
    });
    source.on("close", () => destination.destroy());
    destination.on("close", () => source.destroy());
  });
  const close = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  t.after(close);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

test("a guest that is pinged moves between two sidecars over TLS, and answers on the destination", async (t) => {
  const parts = await needed(t);
  const certificates = parts === undefined ? undefined : TestCertificates.make(t);
  if (parts === undefined || certificates === undefined) return;
  certificates.authority("ca");
  certificates.signed("a", "ca");
  certificates.signed("b", "ca");
  const tls = (name: string): string[] => {
    const { ca, certificate, key } = certificates.files("ca", name);
    return ["--tls-ca", ca, "--tls-cert", certificate, "--tls-key", key];
  };
  const site = await Site.make(t, parts);
  const source = await site.host("a", { expects: false });
  await bringUp(source, "10.0.2.15/24");
  const { peer } = site.fabric;
  peer.startPinger("guest", { targetIp: networkPlan.guestIp, intervalMs: 10, payloadBytes: 200, seed: 1 });
  site.fabric.pump();

  // Who is not told where to, or by what, is told why.
  const nowhere = source.sidecar("--to", "127.0.0.1:9", "--json");
  assert.equal(await nowhere.code, 1, nowhere.said);
  assert.match(nowhere.said, /"code": "peer-refused"/);
  const wrongSide = source.sidecar("--listen", "127.0.0.1:0", "--json");
  assert.equal(await wrongSide.code, 1, wrongSide.said);
  assert.match(wrongSide.said, /"code": "qemu-not-expecting"/);

  const destination = await site.host("b", { expects: true });
  // A controller that goes away while it waits leaves that QEMU as it was.
  const early = destination.sidecar("--listen", "127.0.0.1:0");
  await listeningPort(early);
  await early.kill();
  const waiting = destination.sidecar("--listen", "127.0.0.1:0", ...tls("b"));
  const port = await listeningPort(waiting);
  const second = destination.sidecar("--listen", "127.0.0.1:0", "--json");
  assert.equal(await second.code, 1, second.said);
  assert.match(second.said, /"code": "busy"/);

  await inGuest(source.console, "echo moved > /note");
  const moving = source.sidecar("--to", `127.0.0.1:${port}`, ...tls("a"), "--json");
  assert.equal(await moving.code, 0, moving.said);
  assert.equal(await waiting.code, 0, waiting.said);
  assert.match(waiting.said, /The guest runs here/);
  assert.match(moving.said, /"outcome": "completed"/);
  assert.match(moving.said, /"audited": false/);

  const before = peer.pingReport("guest");
  await sleep(PINGED_MS);
  peer.stopPinger("guest");
  await sleep(PINGED_MS);
  const after = peer.pingReport("guest");
  t.diagnostic(`pings lost ${after.lost} of ${after.sent}, longest gap ${Math.round(after.longestGapMs)} ms`);
  assert.ok(after.answered > before.answered, "no ping was answered on the destination");
  assert.equal(after.corrupt, 0);
  assert.match((await inGuest(destination.console, "cat /note")).output, /moved/);
  assert.match((await inGuest(destination.console, "ping -c 2 -w 5 10.0.2.3")).output, / 0% packet loss/);

  // The guest is here for good: neither side moves it a second time by mistake.
  const again = source.sidecar("--to", `127.0.0.1:${port}`, ...tls("a"), "--json");
  assert.equal(await again.code, 1, again.said);
  assert.match(again.said, /"code": "qemu-guest-not-running"/);
  // The VF servers outlive their QEMUs.
  await source.qemu.kill();
  await source.server.untilItSays("The client has gone.");
  await source.server.kill("SIGINT");
  assert.equal(await source.server.code, 0);
});

test("a move that its controller leaves, or whose destination dies, leaves the guest on the source; one whose source dies, nowhere", async (t) => {
  const parts = await needed(t);
  if (parts === undefined) return;
  const site = await Site.make(t, parts);
  const source = await site.host("a", { expects: false });
  await bringUp(source, "10.0.2.15/24");
  const stillWorks = async (why: string): Promise<void> => {
    const { output } = await inGuest(source.console, "ping -c 3 -w 10 10.0.2.3");
    assert.match(output, / 0% packet loss/, why);
  };
  // At 20 Mbit/s the first round takes seconds.
  const slowly = ["--bandwidth", "20M"];

  const first = await site.host("b", { expects: true });
  const waiting = first.sidecar("--listen", "127.0.0.1:0", "--json");
  const moving = source.sidecar("--to", `127.0.0.1:${await listeningPort(waiting)}`, ...slowly);
  await waiting.untilItSays("A guest comes in");
  await moving.kill();
  assert.equal(await waiting.code, 1, waiting.said);
  assert.match(waiting.said, /"code": "cancelled"/);
  await source.server.untilItSays("The guest runs on here");
  await stillWorks("after the source's controller was killed");

  const spent = first.sidecar("--listen", "127.0.0.1:0", "--json");
  assert.equal(await spent.code, 1, spent.said);
  await first.qemu.kill();

  const other = await site.host("c", { expects: true });
  const waitingAgain = other.sidecar("--listen", "127.0.0.1:0", "--json");
  const movingAgain = source.sidecar("--to", `127.0.0.1:${await listeningPort(waitingAgain)}`, ...slowly, "--json");
  await waitingAgain.untilItSays("A guest comes in");
  await other.qemu.kill();
  assert.equal(await movingAgain.code, 1, movingAgain.said);
  assert.match(movingAgain.said, /"code": "destination-qemu-gone"/);
  assert.match(waitingAgain.said, /"code": "destination-qemu-gone"/);
  await stillWorks("after the destination's QEMU was killed");
  // And the VF server of the QEMU that died takes the next one.
  await other.server.untilItSays("The client has gone.");

  // The link breaks for good just before `go` arrives: nobody knows, until a person says so.
  const unheard = await site.host("e", { expects: true });
  const waitingForGo = unheard.sidecar("--listen", "127.0.0.1:0", "--json");
  const broken = await linkThatBreaksBeforeGo(t, Number(await listeningPort(waitingForGo)));
  const unsure = source.sidecar("--to", `127.0.0.1:${broken}`, "--json");
  assert.equal(await unsure.code, 1, unsure.said);
  assert.equal(await waitingForGo.code, 1, waitingForGo.said);
  assert.match(unsure.said, /whether the guest runs there is not known/);
  const refused = source.sidecar("--to", "127.0.0.1:9", "--json");
  assert.equal(await refused.code, 1, refused.said);
  assert.match(refused.said, /"code": "outcome-unknown"/);
  const takenBack = site.keep(underway("sidecar", "--vf", source.vf, "--take-back"));
  assert.equal(await takenBack.code, 0, takenBack.said);
  await stillWorks("after it was taken back");

  // Memory that is gone reads as zeros: none of it must ever run anywhere.
  const last = await site.host("d", { expects: true });
  const waitingInVain = last.sidecar("--listen", "127.0.0.1:0", "--json");
  const movingInVain = source.sidecar("--to", `127.0.0.1:${await listeningPort(waitingInVain)}`, ...slowly, "--json");
  await waitingInVain.untilItSays("A guest comes in");
  await source.qemu.kill();
  assert.equal(await movingInVain.code, 1, movingInVain.said);
  assert.match(movingInVain.said, /"code": "source-qemu-gone"/);
  assert.equal(await waitingInVain.code, 1, waitingInVain.said);
  for (const { server } of [source, last]) {
    await server.kill("SIGINT");
    assert.equal(await server.code, 0, server.said);
  }
});
