import assert from "node:assert/strict";
import { test } from "node:test";
import { qemuArguments, type QemuSettings } from "./qemu-command-line.ts";

const settings: QemuSettings = {
  memoryBytes: 256 << 20,
  accelerator: "tcg",
  cpuModel: "max",
  vIommu: "none",
  boot: { kernel: "/k", initrd: "/i", commandLine: "console=ttyS0" },
  vfSocketPath: "/run/vf",
  incoming: false,
  qmpPath: "/run/a,b/qmp",
  serialPath: "/run/tty",
};
const virtioNet = { cablePath: "/run/cable", mac: "02:00:0a:00:02:0f" };

/** Values of one option, JSON read. */
function values(args: readonly string[], option: string): unknown[] {
  return args
    .filter((_, i) => args[i - 1] === option)
    .map((text) => (text.startsWith("{") ? (JSON.parse(text) as unknown) : text));
}

test("guest RAM is one shared memfd that the machine takes as its memory", () => {
  const args = qemuArguments(settings);
  assert.deepEqual(values(args, "-object"), [
    { "qom-type": "memory-backend-memfd", id: "ram", size: 268_435_456, share: true },
  ]);
  assert.deepEqual(values(args, "-m"), ["262144k"]);
  assert.deepEqual(values(args, "-machine"), ["q35,memory-backend=ram"]);
});

test("a comma in a path is doubled where QEMU's option syntax would split it", () => {
  const args = qemuArguments(settings);
  assert.deepEqual(values(args, "-qmp"), ["unix:/run/a,,b/qmp"]);
  assert.deepEqual(values(args, "-chardev"), ["socket,id=console,path=/run/tty"]);
});

test("an IOMMU comes before the devices it is for, and the guest's kernel is told to use it strictly", () => {
  for (const [vIommu, driver] of [
    ["intel", "intel-iommu"],
    ["virtio", "virtio-iommu-pci"],
  ] as const) {
    const args = qemuArguments({ ...settings, vIommu });
    const drivers = values(args, "-device").map((one) => (one as { driver: string }).driver);
    assert.deepEqual(drivers, [driver, "virtio-rng-pci", "vfio-user-pci"]);
    assert.match(String(values(args, "-append")[0]), /^console=ttyS0 .*iommu\.strict=1$/);
  }
  assert.deepEqual(values(qemuArguments(settings), "-append"), ["console=ttyS0"]);
});

test("a failover pair sits behind two root ports, the VF naming the card that stands by", () => {
  const devices = values(qemuArguments({ ...settings, virtioNet, failover: true }), "-device") as Record<
    string,
    unknown
  >[];
  assert.deepEqual(
    devices.map(({ driver, bus }) => [driver, bus]),
    [
      ["virtio-rng-pci", undefined],
      ["pcie-root-port", undefined],
      ["virtio-net-pci", "net-port"],
      ["pcie-root-port", undefined],
      ["vfio-user-pci", "vf-port"],
    ],
  );
  assert.equal(devices[2]?.["failover"], true);
  assert.equal(devices[4]?.["failover_pair_id"], "net0");
  assert.throws(() => qemuArguments({ ...settings, failover: true }), /two cards/);
});

test("the two sides of a migration differ in nothing but that one waits", () => {
  const source = qemuArguments({ ...settings, virtioNet });
  assert.deepEqual(qemuArguments({ ...settings, virtioNet, incoming: true }), [...source, "-S", "-incoming", "defer"]);
});
