// The embedded PC with a real Linux and its stock ixgbevf: boot, console, pause, moving, and the oracle of the dirty log.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { prepareAssets } from "../src/host/assets.ts";
import { defaultCacheDirectory } from "../src/host/assets/cache.ts";
import { hostClock } from "../src/host/clock.ts";
import { DeviceRunner } from "../src/host/device-runner.ts";
import { createDestinationGuest, startLinuxGuest, type LinuxGuest } from "../src/host/linux-guest.ts";
import { ConsoleRelay, runCommand } from "../src/machine/shell.ts";
import { PageSet } from "../src/memory/page-set.ts";
import { formatIpv4 } from "../src/network/ipv4.ts";
import { formatMac } from "../src/network/mac.ts";
import { Peer } from "../src/network/peer.ts";
import { networkPlan } from "../src/network/plan.ts";
import { decodeVfState, encodeVfState } from "../src/nic/state.ts";

const memoryBytes = 128 * 2 ** 20;
const timeoutMs = 60_000;
const peerIp = formatIpv4(networkPlan.peerIp);

/** A guest on a network of two: itself, and the built-in peer, which answers ARP and ping. */
interface Plugged {
  readonly guest: LinuxGuest;
  readonly runner: DeviceRunner;
}

type Start = typeof startLinuxGuest;

async function plugged(start: Start): Promise<Plugged> {
  const station = { ip: networkPlan.peerIp, mac: networkPlan.peerMac };
  const toGuest = (frame: Uint8Array): void => {
    const copy = frame.slice();
    setImmediate(() => guest.vf.receiveFrame(copy));
  };
  const peer = new Peer({ clock: hostClock, station, send: toGuest });
  const guest = await start({
    assets: await prepareAssets({ onProgress: console.log }),
    cacheDirectory: defaultCacheDirectory(),
    memoryBytes,
    mac: formatMac(networkPlan.guestMac),
    uplink: { frame: (bytes) => peer.frame(bytes) },
    clock: hostClock,
    seed: 1,
    onProgress: console.log,
  });
  return { guest, runner: new DeviceRunner(guest.vf, hostClock) };
}

let source: Plugged;
const others: Plugged[] = [];
before(async () => {
  source = await plugged(startLinuxGuest);
});
after(async () => {
  for (const { guest, runner } of [source, ...others]) {
    runner.close();
    await guest.machine.close();
  }
});

async function inGuest(command: string, { guest }: Plugged = source): Promise<string> {
  const { output, exitStatus } = await runCommand(guest.console, command, { timeoutMs });
  assert.equal(exitStatus, 0, `${command}: ${output}`);
  return output;
}

test("the guest runs Debian's kernel with the stock driver, its link up and its address set", async () => {
  assert.match(await inGuest("uname -srm"), /^Linux 6\.\d+\.\S+ i686\n$/);
  assert.match(await inGuest("ls -l /sys/class/net/eth0/device/driver"), /drivers\/ixgbevf\n$/);
  assert.match(await inGuest("dmesg"), /NIC Link is Up 10 Gbps/);
  assert.match(await inGuest("ip -4 addr show dev eth0"), /inet 10\.0\.2\.15\/24/);
  assert.match(await inGuest("cat /proc/interrupts"), /PCI-MSI.*eth0-TxRx-0/);
});

test("a command's output and exit status come back, whatever characters it has", async () => {
  const { guest } = source;
  const echoed = await runCommand(guest.console, `echo 'a "b"' '$c' "it's"; (exit 7)`, { timeoutMs });
  assert.deepEqual(echoed, { output: `a "b" $c it's\n`, exitStatus: 7 });
  const nothing = await runCommand(guest.console, "true", { timeoutMs });
  assert.deepEqual(nothing, { output: "", exitStatus: 0 });
});

test("the guest's pings are answered, all of them", async () => {
  assert.match(await inGuest(`ping -A -q -c 200 ${peerIp}`), /200 packets transmitted, 200 packets received/);
});

test("the driver can be unloaded and loaded again, and the network works", async () => {
  await inGuest("ip link set eth0 down; rmmod ixgbevf; insmod /lib/modules/ixgbevf.ko; ip link set eth0 up");
  await inGuest("ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; sleep 1");
  assert.match(await inGuest(`ping -q -c 5 -i 0.1 ${peerIp}`), / 0% packet loss/);
  assert.doesNotMatch(await inGuest("dmesg"), /WARNING|Oops|BUG:|Hang|timed out/);
});

test("a paused guest executes no instruction, fires no timer and holds interrupts, and then goes on", async () => {
  const { machine, vf } = source.guest;
  const uptime = async (): Promise<number> => Number((await inGuest("cat /proc/uptime")).split(" ")[0]);
  const uptimeBefore = await uptime();
  await machine.pause();
  const [instructions, timeMs, ram] = [machine.instructionCount, machine.clock.lastMs, hashOf(machine.memory.bytes())];
  machine.console.send("echo typed while paused\n");
  vf.raiseAllEnabled();
  vf.run();
  await sleep(1500);
  assert.equal(machine.instructionCount, instructions);
  assert.equal(machine.clock.lastMs, timeMs);
  assert.equal(hashOf(machine.memory.bytes()), ram);
  await machine.resume();
  const heard = machine.console.output.length;
  assert.ok((await uptime()) - uptimeBefore < 1.5, "the guest's clock stood still");
  assert.match(machine.console.output.slice(heard - 100), /typed while paused/);
});

test("every page the CPU changed is in the CPU's dirty log, under load and traffic", async (t) => {
  const { machine, deviceLog } = source.guest;
  const { count, sizeBytes } = machine.memory.pages;
  assert.equal(machine.cpuDirtyLog.method, "wasm");
  await inGuest(
    "while true; do find / -xdev; dd if=/dev/urandom of=/root/y bs=4k count=300; gzip -c /root/y >/root/z; rm /root/z; " +
      "awk 'BEGIN { for (i = 0; i < 20000; i++) x += sqrt(i) * 1.1; print x }'; done >/dev/null 2>&1 & " +
      `ping -A -q ${peerIp} >/dev/null &`,
  );
  machine.cpuDirtyLog.start();
  deviceLog.fetchAndClear(new PageSet(count));
  const shadow = Buffer.from(machine.memory.bytes());
  let changed = 0;
  let logged = 0;
  const missed: number[] = [];
  for (let epoch = 0; epoch < 50; epoch++) {
    await sleep(20 + epoch);
    const written = new PageSet(count);
    machine.cpuDirtyLog.fetchAndClear(written);
    logged += written.size;
    deviceLog.fetchAndClear(written);
    const ram = machine.memory.bytes();
    for (let page = 0; page < count; page++) {
      const [start, end] = [page * sizeBytes, (page + 1) * sizeBytes];
      const now = ram.subarray(start, end);
      if (Buffer.compare(now, shadow.subarray(start, end)) === 0) continue;
      changed++;
      if (!written.has(page)) missed.push(page);
      shadow.set(now, start);
    }
  }
  machine.cpuDirtyLog.stop();
  await inGuest("kill %1 %2 2>/dev/null; killall ping; true");
  t.diagnostic(`${changed} pages changed, ${logged} in the CPU's log, ${missed.length} missed`);
  assert.ok(changed > 1000, "the load was a load");
  assert.deepEqual(missed, []);
});

/** Moves the guest within this process, as the engine does between two: RAM, machine state, VF state. */
async function moved(from: Plugged): Promise<Plugged> {
  const to = await plugged(createDestinationGuest);
  others.push(to);
  const { machine, vf } = from.guest;
  await machine.pause();
  vf.stop();
  to.guest.machine.memory.bytes().set(machine.memory.bytes());
  to.guest.machine.restoreState(machine.saveState());
  to.guest.vf.restore(decodeVfState(encodeVfState(vf.save())));
  return to;
}

test("a running command and a running ping go on in a second machine, and nobody notices", async () => {
  const relay = new ConsoleRelay(source.guest.console);
  await inGuest(`ping -i 0.1 -c 30 ${peerIp} >/root/ping 2>&1 &`);
  const command = runCommand(relay, "for i in $(seq 1 20); do echo tick $i; usleep 50000; done", { timeoutMs });
  while (!relay.output.includes("tick 5")) await sleep(5);
  const destination = await moved(source);
  relay.follow(destination.guest.console);
  destination.guest.vf.start();
  destination.guest.vf.raiseAllEnabled();
  await destination.guest.machine.resume();
  const { output, exitStatus } = await command;
  assert.equal(exitStatus, 0);
  assert.deepEqual(
    output.trimEnd().split("\n"),
    Array.from({ length: 20 }, (_, index) => `tick ${index + 1}`),
  );
  const ping = await inGuest("wait; cat /root/ping", destination);
  assert.match(ping, /30 packets transmitted, (29|30) packets received/);
  assert.match(await inGuest(`ping -q -c 20 -i 0.05 ${peerIp}`, destination), / 0% packet loss/);
  assert.doesNotMatch(await inGuest("dmesg", destination), /WARNING|Oops|BUG:|Hang|stall|unstable/);
});

function hashOf(bytes: Uint8Array): string {
  return createHash("sha1").update(bytes).digest("hex");
}
