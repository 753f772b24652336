// A campaign: the strategies that are expected to be safe, under every assumption by itself and every two together.
import {
  assumptionSwitches,
  defaultAssumptions,
  defaultBounds,
  withBound,
  type Assumptions,
} from "../../src/explore/assumptions.ts";
import { explore } from "../../src/explore/explore.ts";
import { strategies } from "../../src/strategy/strategies.ts";

/** Not true of the machines that Underway runs on; the strategies are not expected to bear them. */
const untrue = new Set(["relaxedDescriptors=true", "drain=false"]);

interface Setting {
  readonly name: string;
  readonly value: string | number | boolean;
}

const settings: readonly Setting[] = Object.entries(assumptionSwitches).flatMap(([name, { default: usual, values }]) =>
  values.filter((value) => value !== usual).map((value) => ({ name, value })),
);
const told = ({ name, value }: Setting): string => `${name}=${value}`;
const bearable = settings.filter((setting) => !untrue.has(told(setting)));
const pairs = bearable.flatMap((first, i) =>
  bearable.slice(i + 1).flatMap((second) => (first.name === second.name ? [] : [[first, second]])),
);
const bounds = process.argv.slice(2).reduce(withBound, { ...defaultBounds, frames: 2 });

let surprises = 0;
for (const combination of [[], ...bearable.map((setting) => [setting]), ...pairs]) {
  const changed = Object.fromEntries(combination.map(({ name, value }) => [name, value]));
  const assumptions: Assumptions = { ...defaultAssumptions, ...changed };
  for (const { name } of strategies.filter(({ expectedVerdict }) => expectedVerdict === "safe")) {
    const startMs = performance.now();
    const { verdict, states, violation, schedule } = explore({ strategy: name, assumptions, bounds });
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    if (verdict !== "safe") surprises++;
    const why =
      violation === undefined ? "" : `: ${violation.sentence} (${violation.hazards.join(", ")}) ${schedule ?? ""}`;
    console.log(
      `${name} ${combination.map(told).join(" ") || "defaults"}: ${verdict}, ${states} states, ${seconds} s${why}`,
    );
  }
}
console.log(surprises === 0 ? "all are safe" : `${surprises} are not safe`);
process.exitCode = surprises === 0 ? 0 : 2;
