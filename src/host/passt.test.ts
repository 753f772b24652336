import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { ArpOperation, buildArpFrame, parseArpFrame } from "../network/arp.ts";
import { conservationFaults } from "../network/counters.ts";
import {
  ETHERNET_HEADER_BYTES,
  EtherType,
  readU16,
  readU32,
  writeEthernetHeader,
  writeU16,
  writeU32,
} from "../network/ethernet.ts";
import { internetChecksum, IPV4_HEADER_BYTES, parseIpv4, writeIpv4Header } from "../network/ipv4.ts";
import { BROADCAST_MAC, ZERO_MAC, type MacAddress } from "../network/mac.ts";
import { networkPlan } from "../network/plan.ts";
import { plugCable, type Cable } from "./fabric-client.ts";
import { startFabric, type Fabric } from "./fabric.ts";
import { cablePath } from "./fabric-server.ts";
import { passtProgram } from "./test-programs.ts";

const guestMac = 0x0200_0000_0015 as MacAddress;
const { guestIp, gatewayIp, gatewayMac, peerIp, peerMac } = networkPlan;
const TCP = 6;
const TcpFlag = { syn: 2, ack: 16 } as const;

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

function tcpSyn(port: number, sequence: number): Uint8Array {
  const tcpBytes = 20;
  const frame = new Uint8Array(ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + tcpBytes);
  writeEthernetHeader(frame, { destination: gatewayMac, source: guestMac, etherType: EtherType.ipv4 });
  writeIpv4Header(frame, ETHERNET_HEADER_BYTES, { source: guestIp, destination: gatewayIp, protocol: TCP }, tcpBytes);
  const at = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
  writeU16(frame, at, 40_000);
  writeU16(frame, at + 2, port);
  writeU32(frame, at + 4, sequence);
  frame[at + 12] = (tcpBytes >>> 2) << 4;
  frame[at + 13] = TcpFlag.syn;
  writeU16(frame, at + 14, 0xffff);
  const pseudo = new Uint8Array(12 + tcpBytes);
  writeU32(pseudo, 0, guestIp);
  writeU32(pseudo, 4, gatewayIp);
  writeU16(pseudo, 8, TCP);
  writeU16(pseudo, 10, tcpBytes);
  pseudo.set(frame.subarray(at), 12);
  writeU16(frame, at + 16, internetChecksum(pseudo, 0, pseudo.length));
  return frame;
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
  const server = createServer((socket) => {
    accepted.resolve(socket.remoteAddress);
    socket.on("error", () => {}).destroy();
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const gateway = await world.ask(arpRequest(gatewayIp), parseArpFrame);
  assert.equal(gateway.senderMac, gatewayMac);
  const port = (server.address() as AddressInfo).port;
  const sequence = 1_000_000;
  const reply = await world.ask(tcpSyn(port, sequence), (frame) => {
    const packet = parseIpv4(frame, ETHERNET_HEADER_BYTES);
    if (packet?.protocol !== TCP || packet.source !== gatewayIp) return undefined;
    const at = packet.payloadStart;
    return { flags: frame[at + 13] ?? 0, from: readU16(frame, at), acknowledged: readU32(frame, at + 8) };
  });
  assert.deepEqual(reply, { flags: TcpFlag.syn | TcpFlag.ack, from: port, acknowledged: sequence + 1 });
  assert.equal(await accepted.promise, "127.0.0.1");
  assert.deepEqual(conservationFaults((await world.fabric.call("counters", null)).switch), []);
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
