import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { ArpOperation, buildArpFrame, parseArpFrame } from "../network/arp.ts";
import { conservationFaults } from "../network/counters.ts";
import { ETHERNET_HEADER_BYTES, EtherType, writeEthernetHeader } from "../network/ethernet.ts";
import { IPV4_HEADER_BYTES } from "../network/ipv4.ts";
import { BROADCAST_MAC, ZERO_MAC, type MacAddress } from "../network/mac.ts";
import { networkPlan } from "../network/plan.ts";
import {
  parseTcpFrame,
  TCP_HEADER_BYTES,
  TcpFlag,
  writeEmptySegment,
  type TcpHeader,
  type TcpSegment,
} from "../network/tcp.ts";
import { plugCable, type Cable } from "./fabric-client.ts";
import { startFabric, type Fabric } from "./fabric.ts";
import { cablePath } from "./fabric-server.ts";
import { passtProgram } from "./test-programs.ts";

const guestMac = 0x0200_0000_0015 as MacAddress;
const { guestIp, gatewayIp, gatewayMac, peerIp, peerMac } = networkPlan;

interface Rig {
  readonly fabric: Fabric;
  readonly cable: Cable;
  readonly passtPid: number;
  /** Sends a frame and gives the first frame from then on that the test accepts. */
  readonly ask: <T>(frame: Uint8Array, accept: (frame: Uint8Array) => T | undefined) => Promise<T>;
}

async function rig(t: TestContext): Promise<Rig | undefined> {
  const program = await passtProgram(t);
  if (program === undefined) return undefined;
  const directory = await mkdtemp(path.join(tmpdir(), "underway-"));
  const fabric = await startFabric({ directory, cables: ["source"], seed: 1 });
  t.after(async () => {
    await fabric.close();
    await rm(directory, { recursive: true });
  });
  const { pid: passtPid } = await fabric.call("connectPasst", { program });
  const cable = await plugCable(cablePath(directory, "source"));
  const ask: Rig["ask"] = (frame, accept) =>
    new Promise((resolve) => {
      cable.onFrame = (answer) => {
        const accepted = accept(answer);
        if (accepted !== undefined) resolve(accepted);
      };
      cable.frame(frame);
    });
  return { fabric, cable, passtPid, ask };
}

function arpRequest(targetIp: typeof gatewayIp): Uint8Array {
  const addresses = { senderMac: guestMac, senderIp: guestIp, targetMac: ZERO_MAC, targetIp };
  return buildArpFrame(BROADCAST_MAC, { operation: ArpOperation.request, ...addresses });
}

/** A segment of the test's guest to a server's port. */
function guestSegment(
  port: number,
  fields: Pick<TcpHeader, "sequence" | "acknowledgment" | "flags" | "window">,
): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + TCP_HEADER_BYTES);
  writeEthernetHeader(frame, { destination: gatewayMac, source: guestMac, etherType: EtherType.ipv4 });
  const flow = { source: guestIp, destination: gatewayIp, sourcePort: 40_000, destinationPort: port };
  writeEmptySegment(frame, { ...flow, ...fields });
  return frame;
}

const tcpSyn = (port: number, sequence: number): Uint8Array =>
  guestSegment(port, { sequence, acknowledgment: 0, flags: TcpFlag.syn, window: 0xffff });

const fromGateway = (frame: Uint8Array): TcpSegment | undefined => {
  const segment = parseTcpFrame(frame);
  return segment?.source === gatewayIp ? segment : undefined;
};

/** A server on the host's loopback; gives its port. */
async function serve(t: TestContext, onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer(onConnection);
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

async function untilDead(pid: number): Promise<void> {
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("through passt a SYN to the gateway's address is answered by a server on the host's loopback", async (t) => {
  const world = await rig(t);
  if (world === undefined) return;
  const accepted = Promise.withResolvers<string | undefined>();
  const port = await serve(t, (socket) => {
    accepted.resolve(socket.remoteAddress);
    socket.on("error", () => {}).destroy();
  });
  const gateway = await world.ask(arpRequest(gatewayIp), parseArpFrame);
  assert.equal(gateway.senderMac, gatewayMac);
  const sequence = 1_000_000;
  const { flags, sourcePort, acknowledgment } = await world.ask(tcpSyn(port, sequence), fromGateway);
  assert.deepEqual([flags, sourcePort, acknowledgment], [TcpFlag.syn | TcpFlag.ack, port, sequence + 1]);
  assert.equal(await accepted.promise, "127.0.0.1");
  assert.deepEqual(conservationFaults((await world.fabric.call("counters", null)).switch), []);
});

test("a guest whose window is closed is asked for it, and what opens it brings the data", async (t) => {
  const world = await rig(t);
  if (world === undefined) return;
  const text = "0123456789";
  const port = await serve(t, (socket) => void socket.on("error", () => {}).write(text));
  const sequence = 1_000_001;
  const { sequence: first } = await world.ask(tcpSyn(port, sequence - 1), fromGateway);
  const established = { sequence, acknowledgment: first + 1, flags: TcpFlag.ack };
  const question = await world.ask(guestSegment(port, { ...established, window: 0 }), fromGateway);
  assert.deepEqual([question.sequence, question.acknowledgment, question.dataBytes], [first, sequence, 0]);
  const data = await world.ask(guestSegment(port, { ...established, window: 0xffff }), fromGateway);
  assert.deepEqual([data.sequence, data.dataBytes], [first + 1, text.length]);
});

test("passt does not claim the built-in peer's address, though it answers ARP for any", async (t) => {
  const world = await rig(t);
  if (world === undefined) return;
  const answers: MacAddress[] = [];
  await world.ask(arpRequest(peerIp), (frame) => {
    const packet = parseArpFrame(frame);
    if (packet !== undefined) answers.push(packet.senderMac);
    return packet;
  });
  // passt has answered everything that came before once it answers for its own address.
  await world.ask(arpRequest(gatewayIp), (frame) => {
    const packet = parseArpFrame(frame);
    if (packet !== undefined) answers.push(packet.senderMac);
    return packet?.senderMac === gatewayMac ? packet : undefined;
  });
  assert.deepEqual(answers, [peerMac, gatewayMac]);
});

test("passt ends with the fabric, even when the fabric is killed", async (t) => {
  const world = await rig(t);
  if (world === undefined) return;
  assert.ok(isAlive(world.passtPid));
  world.fabric.kill();
  await untilDead(world.passtPid);
  await world.cable.closed;
});

test("passt that dies leaves the fabric running, its port down, and can be started again", async (t) => {
  const world = await rig(t);
  if (world === undefined) return;
  const isUp = async (): Promise<boolean> => {
    const counters = await world.fabric.call("counters", null);
    return counters.switch.ports.some(({ name, up }) => name === "passt" && up);
  };
  process.kill(world.passtPid, "SIGKILL");
  while (await isUp()) await new Promise((resolve) => setTimeout(resolve, 5));
  const program = await passtProgram(t);
  assert.ok(program !== undefined);
  const { pid } = await world.fabric.call("connectPasst", { program });
  assert.notEqual(pid, world.passtPid);
  const gateway = await world.ask(arpRequest(gatewayIp), parseArpFrame);
  assert.equal(gateway.senderMac, gatewayMac);
});
