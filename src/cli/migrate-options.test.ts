import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { MigrateOptions } from "../host/report.ts";
import { vIommus } from "../machine/qemu/qemu-command-line.ts";
import { strategies } from "../strategy/strategies.ts";
import { FakeEnvironment, fakeRunner } from "./fakes.ts";
import { repeatCommand } from "./migrate-options.ts";
import { runCli } from "./run-cli.ts";

/** What the runner is asked for when these words are typed, and how the program ended. */
async function typed(
  words: readonly string[],
): Promise<{ asked: MigrateOptions | undefined; exitCode: number; said: string }> {
  const environment = new FakeEnvironment();
  let asked: MigrateOptions | undefined;
  const exitCode = await runCli(["migrate", ...words], environment, async () => (options, sinks) => {
    asked = options;
    return fakeRunner(options, sinks);
  });
  return { asked, exitCode, said: environment.stderr.text };
}

test("without a word the guest is Linux with 128 MiB, moved by rings-first during a download", async () => {
  assert.deepEqual((await typed([])).asked, {
    machine: "linux",
    strategy: "rings-first",
    memoryBytes: 128 << 20,
    traffic: "download",
    downtimeLimitMs: 100,
    seed: 4711,
    assets: {},
    roundsMax: 20,
    ifNotConverging: "switch-over",
  });
});

test("a model guest gets frames of full size at 1 Gbit/s unless another load is asked for", async () => {
  const { asked } = await typed(["--machine", "model"]);
  assert.equal(asked?.traffic, "frames");
  assert.deepEqual(asked.load, { bitsPerSecond: 1e9, frameBytes: "1518" });
  const other = await typed("--machine model --memory 16M --load 10Gbit --frame-bytes mix".split(" "));
  assert.deepEqual(other.asked?.load, { bitsPerSecond: 1e10, frameBytes: "mix" });
  assert.equal((await typed("--machine model --traffic none".split(" "))).asked?.load, undefined);
});

const conflicts: readonly (readonly [words: string, complaint: RegExp])[] = [
  ["--kernel vmlinuz", /without --initrd/],
  ["--initrd initrd", /without --kernel/],
  ["--record run --capture ./run", /the same file/],
  ["--machine toaster", /--machine cannot be "toaster"/],
  ["--machine qemu --bios bios.bin", /--bios is not for the machine qemu\. .*--machine linux/],
  ["--machine qemu --iommu amd", /none, intel, virtio/],
  ["--iommu intel", /--iommu is not for the machine linux\. .*--machine qemu/],
  ["--qemu qemu-system-x86_64", /--qemu is not for the machine linux/],
  ["--strategy shuffle", /shuffle does not run on the machine linux/],
  ["--strategy failover", /The baseline failover does not run on the machine linux\. Choose --machine qemu/],
  ["--machine qemu --strategy virtio-net --traffic none", /nothing is known but what its traffic shows/],
  ["--traffic jam", /download, echo, none/],
  ["--downtime-limit 0", /1 to 60,000/],
  ["--rounds-max 0", /1 to 1,000/],
  ["--if-not-converging hope", /switch-over, give-up/],
  ["--load 1G", /--load was given, and --traffic download sends no frames/],
  ["--traffic frames", /download, echo, none/],
  ["--machine model --traffic download", /frames, none/],
  ["--machine model --traffic none --frame-bytes 64", /--frame-bytes was given, and --traffic none/],
  ["--machine model --load 11G", /more than the card's link of 10 Gbit\/s/],
  ["--machine model --frame-bytes 65", /64, 1518, mix/],
  ["--machine model --memory 8M", /16 MiB to 1 GiB/],
  ["--machine model --capture run.pcapng", /--capture is not for the machine model\. .*linux or qemu/],
  ["--machine model --kernel vmlinuz --initrd initrd", /--kernel is not for the machine model/],
  ["--seed -1", /--seed/],
];
for (const [words, complaint] of conflicts) {
  test(`"migrate ${words}" is wrong usage, and the complaint says why`, async () => {
    const { exitCode, said, asked } = await typed(words.split(" "));
    assert.equal(exitCode, 64);
    assert.match(said.replace(/\s+/g, " "), complaint);
    assert.equal(asked, undefined, "nothing was started");
  });
}

const linuxOptions: fc.Arbitrary<MigrateOptions> = fc.record(
  {
    machine: fc.constant("linux"),
    strategy: fc.constantFrom(
      ...strategies.filter(({ machines }) => machines.includes("linux")).map((strategy) => strategy.name),
    ),
    memoryBytes: fc.integer({ min: 64, max: 1024 }).map((mib) => mib << 20),
    traffic: fc.constantFrom("download", "echo", "none"),
    downtimeLimitMs: fc.integer({ min: 1, max: 60_000 }),
    bandwidthBytesPerSecond: fc.integer({ min: 125_000, max: 1e10 }),
    seed: fc.integer({ min: 200, max: 2 ** 32 - 1 }),
    assets: fc.constant({}),
    roundsMax: fc.integer({ min: 1, max: 1000 }),
    ifNotConverging: fc.constantFrom("switch-over", "give-up"),
  },
  {
    noNullPrototype: true,
    requiredKeys: [
      "machine",
      "strategy",
      "memoryBytes",
      "traffic",
      "downtimeLimitMs",
      "seed",
      "assets",
      "roundsMax",
      "ifNotConverging",
    ],
  },
);

const modelOptions = fc
  .tuple(linuxOptions, fc.integer({ min: 1e6, max: 1e10 }), fc.constantFrom("64", "1518", "mix"))
  .map(([options, bitsPerSecond, frameBytes]): MigrateOptions => {
    const load = { bitsPerSecond, frameBytes };
    return Object.assign(options, { machine: "model", traffic: "frames", load } as const);
  });
const qemuOptions = fc
  .tuple(linuxOptions, fc.constantFrom(...vIommus))
  .map(([options, iommu]): MigrateOptions => Object.assign(options, { machine: "qemu", qemu: { iommu } } as const));
const anyOptions = fc.oneof(linuxOptions, modelOptions, qemuOptions);

test("the command that a report prints asks for the same run", async () => {
  await fc.assert(
    fc.asyncProperty(anyOptions, async (options) => {
      const [, , ...words] = repeatCommand("underway", options).split(" ");
      assert.deepEqual((await typed(words)).asked, options);
    }),
    { numRuns: 50 },
  );
});

test("a file name with spaces and quotes is quoted for the shell", async () => {
  const { asked } = await typed([]);
  assert.ok(asked !== undefined);
  const command = repeatCommand("underway", { ...asked, assets: { bios: "it's here/bios.bin" } });
  assert.match(command, /--bios 'it'\\''s here\/bios\.bin'/);
});
