// A made-up world and a made-up migration for tests of the command line.
import picocolors from "picocolors";
import { ManualClock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { fixtureEvents, fixtureReport } from "../host/report-fixtures.ts";
import type { MigrateOptions } from "../host/report.ts";
import type { Environment, Terminal } from "./environment.ts";
import type { MigrationRunner } from "./migrate-command.ts";

/** A terminal that remembers what was written to it. */
export class FakeTerminal implements Terminal {
  readonly isTTY: boolean;
  readonly unicode: boolean;
  readonly colors: Terminal["colors"];
  columns: number;
  text = "";

  constructor({ isTTY = false, columns = 80, unicode = true, color = false } = {}) {
    this.isTTY = isTTY;
    this.columns = columns;
    this.unicode = unicode;
    this.colors = picocolors.createColors(color);
  }

  write(text: string): void {
    this.text += text;
  }
}

export class FakeEnvironment implements Environment {
  readonly stdout = new FakeTerminal();
  readonly stderr = new FakeTerminal();
  readonly clock = new ManualClock();
  /** Exit codes that the program left with at once. */
  readonly left: number[] = [];
  readonly interruptListeners = new Set<() => void>();

  onInterrupt(listener: () => void): () => void {
    this.interruptListeners.add(listener);
    return () => void this.interruptListeners.delete(listener);
  }

  leave(exitCode: number): void {
    this.left.push(exitCode);
  }

  readonly randomSeed = (): number => 4711;
}

/** Seeds that the made-up runner does something special for. */
export const fakeSeeds = { cannot: 101, waits: 102, defect: 103, stalls: 104 } as const;

/** Plays the fixtures: `blind` ends corrupt, a seed stalled, all others consistent. */
export const fakeRunner: MigrationRunner = async (options, { onEvent, onStage, signal }) => {
  onStage("Fetching what a guest is made of");
  onStage("Booting Linux");
  if (options.seed === fakeSeeds.cannot) {
    throw new OperationError({
      code: "kernel-missing",
      message: "There is no kernel to boot.",
      advice: "Install apt, or give one with --kernel.",
      facts: { package: "linux-image-686" },
    });
  }
  if (options.seed === fakeSeeds.defect) throw new TypeError("nobody thought of this");
  if (options.seed === fakeSeeds.waits) await cancelled(signal);
  for (const event of fixtureEvents()) onEvent(event);
  const kind = options.seed === fakeSeeds.stalls ? "stalled" : options.strategy === "blind" ? "corrupt" : "consistent";
  return { ...fixtureReport(kind), ...reported(options) };
};

const reported = ({ strategy, machine, seed, memoryBytes, ...rest }: MigrateOptions) => ({
  strategy,
  machine,
  seed,
  memoryBytes,
  options: { strategy, machine, seed, memoryBytes, ...rest },
});

function cancelled(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    // Something to wait for, as a migration has.
    const busy = setInterval(() => {}, 1000);
    signal.addEventListener("abort", () => {
      clearInterval(busy);
      const message = "The migration was cancelled.";
      reject(new OperationError({ code: "cancelled", message, advice: "The guest runs on, on the source." }));
    });
  });
}
