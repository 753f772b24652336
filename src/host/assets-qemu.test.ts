import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmod, readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { OperationError } from "../base/errors.ts";
import { prepareQemu, prepareQemuGuest, type QemuAsset, type QemuGuestAssets } from "./assets-qemu.ts";
import { PretendMachine } from "./assets/pretend-machine.fixture.ts";
import { notRun } from "./test-programs.ts";

/** A script that answers as a QEMU does. */
function pretendQemu(version: string, devices = `name "vfio-user-pci", bus PCI`): string {
  return `#!/bin/sh
case "$*" in
*--version) echo "QEMU emulator version ${version} (Debian 1:${version}+dfsg-1)" ;;
*"-device help") echo '${devices}' ;;
esac
`;
}

/** A machine of its own whose suite has an old QEMU, as the machine has itself, and whose archive has newer suites. */
async function machineWithOldQemu(t: TestContext): Promise<PretendMachine> {
  const machine = await PretendMachine.make(t);
  await machine.tool("qemu-system-x86_64", pretendQemu("10.0.2").slice("#!/bin/sh\n".length));
  await machine.package("qemu-system-x86", { version: "1:10.0.2+ds-2" });
  return machine;
}

async function offerQemu(machine: PretendMachine, suite: string, version: string): Promise<void> {
  await machine.package("qemu-system-x86", {
    suite,
    version: `1:${version}+ds-3`,
    files: { "usr/bin/qemu-system-x86_64": pretendQemu(version), "usr/bin/qemu-system-i386": "not wanted" },
  });
  await machine.package("qemu-system-x86-needs", {
    suite,
    files: {
      "usr/lib/x/ld-linux-x.so.2": `#!/bin/sh\nshift 3\nexec "$@"\n`,
      "usr/lib/x/libother.so.1": "not wanted",
      "usr/share/seabios/bios-256k.bin": "BIOS",
    },
  });
}

test("the machine's own QEMU is taken when it is new enough and has vfio-user-pci, and apt is asked nothing", async (t) => {
  const machine = await machineWithOldQemu(t);
  await machine.tool("qemu-system-x86_64", pretendQemu("10.1.0").slice("#!/bin/sh\n".length));
  assert.deepEqual(await prepareQemu(machine.options), {
    command: ["qemu-system-x86_64"],
    version: "10.1.0",
    origin: "this machine's own",
  });
  assert.deepEqual(await machine.calls(), []);
});

test("where the machine's own is too old, a newer suite's is unpacked with what it needs and run from there", async (t) => {
  const machine = await machineWithOldQemu(t);
  await offerQemu(machine, "forky", "11.1.2");
  const qemu = await prepareQemu(machine.options);
  assert.equal(qemu.version, "11.1.2");
  assert.equal(qemu.origin, "qemu-system-x86 1:11.1.2+ds-3");
  assert.deepEqual(machine.messages.slice(1), [
    "looking for qemu-system-x86 10.1 or newer in forky: this machine's suites do not have it",
    "fetching qemu-system-x86 1:11.1.2+ds-3 and what it needs, 2 packages (5.0 MB)",
  ]);
  const kept = await readdir(path.join(machine.root, "cache"), { recursive: true });
  assert.ok(!kept.some((file) => /qemu-system-i386|libother|\.deb$|tmp/.test(file)), kept.join(" "));

  const callsBefore = await machine.calls();
  machine.messages.length = 0;
  assert.deepEqual(await prepareQemu(machine.options), qemu);
  assert.deepEqual([await machine.calls(), machine.messages], [callsBefore, []]);
});

test("a QEMU without vfio-user-pci is as good as none, and backports are looked in when the next suite has none", async (t) => {
  const machine = await machineWithOldQemu(t);
  await machine.tool("qemu-system-x86_64", pretendQemu("11.0.0", "no devices").slice("#!/bin/sh\n".length));
  await offerQemu(machine, "trixie-backports", "10.2.0");
  assert.equal((await prepareQemu(machine.options)).version, "10.2.0");
  const calls = await machine.calls();
  assert.ok(
    calls.some((call) => call.includes("APT::Default-Release=trixie-backports")),
    calls.join("\n"),
  );
});

test("a file of the private QEMU that was changed is fetched again", async (t) => {
  const machine = await machineWithOldQemu(t);
  await offerQemu(machine, "forky", "11.1.2");
  const qemu = await prepareQemu(machine.options);
  const program = qemu.command.find((word) => word.endsWith("/qemu-system-x86_64")) ?? "";
  const good = await readFile(program);
  await machine.write(path.relative(machine.root, program), pretendQemu("99.9.9"));
  assert.deepEqual(await prepareQemu(machine.options), qemu);
  assert.deepEqual(await readFile(program), good);
});

test("a QEMU given by hand is the one, and is refused with its reason when it will not do", async (t) => {
  const machine = await machineWithOldQemu(t);
  const file = await machine.write("mine/qemu", pretendQemu("12.0.0"));
  await chmod(file, 0o755);
  const { command, version, origin } = await prepareQemu({ ...machine.options, qemu: file });
  assert.deepEqual([command, version, origin], [[file], "12.0.0", "given by hand"]);

  const refusals: readonly (readonly [string, RegExp])[] = [
    [pretendQemu("9.2.4"), /given by hand.*version 9\.2\.4, and 10\.1 is the first/],
    [pretendQemu("10.1.0", "no devices"), /without vfio-user-pci/],
    ["#!/bin/sh\necho no such library >&2\nexit 1\n", /no such library/],
  ];
  for (const [script, message] of refusals) {
    await machine.write("mine/qemu", script);
    await assert.rejects(prepareQemu({ ...machine.options, qemu: file }), { code: "asset-missing", message });
  }
  await rm(file);
  await assert.rejects(prepareQemu({ ...machine.options, qemu: file }), { message: /ENOENT/, advice: /--qemu FILE/ });
  assert.deepEqual(await machine.calls(), []);
});

test("no QEMU anywhere names the option, and an archive whose key this machine lacks names the keyring", async (t) => {
  const machine = await machineWithOldQemu(t);
  await assert.rejects(prepareQemu(machine.options), {
    code: "asset-missing",
    message: /^QEMU is not cached.*qemu-system-x86 10\.1 or newer.*in none of/,
    advice: /--qemu FILE/,
  });
  for (const complaint of [
    "NO_PUBKEY 6ED0E7B82643E131",
    "Missing key 4CB50190207B4758A3F73A796ED0E7B82643E131, which",
  ]) {
    await machine.write("broken", `W: GPG error: file:///debian forky InRelease: ${complaint}\nE: It is not signed.\n`);
    const message = /signed with the key \w+82643E131, .*upgrade debian-archive-keyring/;
    await assert.rejects(prepareQemu(machine.options), { code: "asset-missing", message });
  }
});

test("the 64-bit guest is Debian's kernel and an initrd that loads what the command line names, dependencies first", async (t) => {
  const machine = await PretendMachine.make(t);
  const guest = await prepareQemuGuest(machine.options);
  assert.equal(guest.kernelRelease, "6.12.9-amd64");
  assert.equal(guest.kernel.origin, "linux-image-6.12.9-amd64 1:2.3-4");
  const initrd = await readFile(guest.initrd.path, "latin1");
  assert.ok(initrd.includes("virtio_net) set -- failover net_failover virtio_net ;;"));
  for (const module of ["ixgbevf", "virtio_iommu", "pktgen"]) assert.ok(initrd.includes(`lib/modules/${module}.ko\0`));

  const callsBefore = await machine.calls();
  assert.deepEqual(await prepareQemuGuest(machine.options), guest);
  assert.deepEqual(await machine.calls(), callsBefore);
});

test("a 64-bit guest given by hand needs no apt, its kernel needs its initrd, and a lack of packages names both", async (t) => {
  const machine = await PretendMachine.make(t);
  const kernel = await machine.write("k", "my kernel");
  const initrd = await machine.write("i", "my initrd");
  const guest = await prepareQemuGuest({ ...machine.options, overrides: { kernel, initrd } });
  assert.deepEqual([guest.kernel.path, guest.initrd.path, guest.kernelRelease], [kernel, initrd, undefined]);
  await assert.rejects(prepareQemuGuest({ ...machine.options, overrides: { kernel } }), { advice: /--initrd FILE/ });
  assert.deepEqual(await machine.calls(), []);
  await machine.write("broken", "E: Unable to reach the archive");
  await assert.rejects(prepareQemuGuest(machine.options), {
    code: "asset-missing",
    message: /^the guest's kernel and busybox.*Unable to reach the archive/,
    advice: /--kernel FILE.*--initrd FILE/,
  });
});

/** The real ones; undefined where there are none to be had. */
async function realAssets(t: TestContext): Promise<{ qemu: QemuAsset; guest: QemuGuestAssets } | undefined> {
  const onProgress = (message: string): void => console.log(message);
  try {
    return { qemu: await prepareQemu({ onProgress }), guest: await prepareQemuGuest({ onProgress, withIperf3: true }) };
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    return notRun(t, error.message);
  }
}

/** Types the line at the guest's prompt and gives the console's text up to the next prompt. */
async function bootAndAsk(qemu: QemuAsset, parameters: readonly string[], line: string): Promise<string> {
  const [program = "", ...leading] = qemu.command;
  const child = spawn(program, [...leading, ...parameters], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  let text = "";
  try {
    for await (const part of child.stdout) {
      const promptsBefore = text.split("guest# ").length;
      text += String(part);
      const prompts = text.split("guest# ").length;
      if (promptsBefore === 1 && prompts > 1) child.stdin.write(`${line}\n`);
      if (prompts > 2) break;
    }
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
  return text.split("guest# ")[1] ?? text;
}

test("the real QEMU boots the real guest, which loads virtio's IOMMU and then a failover card's drivers when told to", async (t) => {
  const assets = await realAssets(t);
  if (assets === undefined) return;
  const { qemu, guest } = assets;
  console.log(`QEMU ${qemu.version} (${qemu.origin}), Linux ${guest.kernelRelease}`);
  const machine = ["-accel", "tcg", "-machine", "q35", "-m", "256", "-nodefaults", "-display", "none"];
  const boot = ["-serial", "stdio", "-kernel", guest.kernel.path, "-initrd", guest.initrd.path];
  const commandLine = "console=ttyS0 quiet underway.modules=virtio_iommu,virtio_net";
  const cards = [
    "-device",
    "virtio-iommu-pci",
    "-netdev",
    "hubport,id=n,hubid=0",
    "-device",
    "virtio-net-pci,netdev=n,failover=on",
  ];
  const answer = await bootAndAsk(
    qemu,
    [...machine, ...cards, ...boot, "-append", commandLine],
    "cat /proc/modules; iperf3 --version",
  );
  const loaded = answer.split("\n").flatMap((module) => /^\w+(?= \d+ \d+ )/.exec(module)?.[0] ?? []);
  assert.deepEqual(loaded.toReversed(), ["virtio_iommu", "failover", "net_failover", "virtio_net"], answer);
  assert.match(answer, /^iperf 3\./m);
});
