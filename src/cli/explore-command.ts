// `underway explore`: decides strategies by trying every schedule at toy scale, and tells the shortest that breaks one.
import { Command } from "commander";
import type { Decided, exploreInThreads } from "../host/explore-threads.ts";
import type { SearchWay } from "../host/explore-thread.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import {
  defaultWalks,
  exploreOptionsFrom,
  switchesHelp,
  type ExploreOptions,
  type ExploreWords,
} from "./explore-options.ts";
import { ExploreProgress } from "./explore-progress.ts";
import { exploredAsData, isNews, renderExplored } from "./explore-render.ts";
import { checkingUsage } from "./failure.ts";
import { PROGRAM } from "./program.ts";
import { writeVerdicts } from "./verdict-files.ts";
import { recordedStates } from "./verdicts.ts";

/** Who carries a search out. */
export type Explorer = typeof exploreInThreads;

const examples = `
Examples:
  $ ${PROGRAM} explore --strategy rings-first --bound frames=2
      Every order in which guest, device and engine can take turns. Seconds.
  $ ${PROGRAM} explore
      All strategies within the default bounds. Minutes.
  $ ${PROGRAM} explore --strategy rings-first --assume atomicBytes=8 queues=2
      The same question put to another machine.
  $ ${PROGRAM} explore --json | jq -r '.[] | .strategy + " " + .verdict'

Ctrl-C ends the search.
`;

/** `done` gets the exit code. */
export function exploreCommand(
  environment: Environment,
  loadExplorer: () => Promise<Explorer>,
  done: (exitCode: ExitCode) => void,
): Command {
  return new Command("explore")
    .summary("decide strategies by trying every schedule of a move at toy scale")
    .description(
      "Runs the shipping VF, driver, engine and audit at toy scale through every order in which they can take turns, " +
        "and says of each strategy whether one of them loses a byte, the shortest of them step by step.",
    )
    .optionsGroup("What is decided:")
    .option("--strategy <NAME...>", `one or more; see \`${PROGRAM} strategies\``)
    .option("--all", "every strategy (the default)")
    .option("--assume <NAME=VALUE...>", "what is assumed of the machine, see below")
    .option("--bound <NAME=VALUE...>", "how far the search goes, see below")
    .option("--hazard <NAME>", "look for this hazard only, such as half-frame, and go on past all others")
    .optionsGroup("How:")
    .option("--search <ORDER>", "breadth-first (the shortest schedule; the default), depth-first or random")
    .option("--walks <N>", `random: so many schedules (default: ${defaultWalks})`)
    .option("--seed <N>", "random: the seed of its choices (default: chosen and printed)")
    .option("--preemptions <N>", "only schedules that take the turn from the guest's CPU at most so often")
    .option("--unreduced", "follow orders as well that make no difference")
    .option("--memory <SIZE>", "most memory for the tables of one search (default: none but the machine's)")
    .option("--checkpoint <DIR>", "put each search aside there every minute, and go on with what is there")
    .option("--threads <N>", "strategies at once (default: the machine's cores)")
    .option("--json", "print the results as JSON, and nothing else, on stdout")
    .optionsGroup("For developers:")
    .option("--write-verdicts", "keep the verdicts in the sources, for `strategies` and README.md")
    .optionsGroup("Other:")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", switchesHelp())
    .addHelpText("after", examples)
    .action(async (words: ExploreWords) => {
      done(await exploreStrategies(words, environment, loadExplorer));
    });
}

async function exploreStrategies(
  words: ExploreWords,
  environment: Environment,
  loadExplorer: () => Promise<Explorer>,
): Promise<ExitCode> {
  const options = checkingUsage(() => exploreOptionsFrom(words, environment.randomSeed));
  const decided = await decideAll(options, environment, await loadExplorer());
  if (words.writeVerdicts === true) await writeVerdicts(decided);
  const { stdout } = environment;
  if (words.json === true) {
    const data = decided.map((each) => exploredAsData(each, options.way));
    stdout.write(`${JSON.stringify(data, undefined, 2)}\n`);
  } else {
    const { replay } = await import("../explore/replay.ts");
    stdout.write(renderExplored(decided, { way: options.way, tell: replay, terminal: stdout }));
  }
  return exitCodeOf(decided, options.way);
}

async function decideAll(
  { questions, ...options }: ExploreOptions,
  environment: Environment,
  explorer: Explorer,
): Promise<Decided[]> {
  const progress = new ExploreProgress(environment.stderr, environment.clock);
  const controller = new AbortController();
  const stopListening = environment.onInterrupt(() => controller.abort());
  try {
    const longestFirst = questions.toSorted((a, b) => recordedStates(b.strategy) - recordedStates(a.strategy));
    const decided = await explorer(longestFirst, options, {
      onBegin: ({ strategy }) => progress.begin(strategy),
      onProgress: ({ strategy }, states) => progress.progress(strategy, states),
      onDecided: (each) => progress.decided(each),
      signal: controller.signal,
    });
    return questions.flatMap((question) => decided.filter((each) => each.question.strategy === question.strategy));
  } finally {
    stopListening();
    progress.end();
  }
}

/** A verdict that is news is more important than one that is missing for want of room. */
function exitCodeOf(decided: readonly Decided[], way: SearchWay): ExitCode {
  if (decided.some((each) => isNews(each, way))) return ExitCode.unexpected;
  return decided.some(({ reason }) => reason !== undefined) ? ExitCode.notCarriedOut : ExitCode.expected;
}
