// `underway replay`: carries one schedule out for real and tells it step by step, up to what it breaks.
import { Command } from "commander";
import type { Replayed } from "../explore/replay.ts";
import { decodeSchedule } from "../explore/schedule.ts";
import type { Environment, Terminal } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { pageOf, paragraph } from "./layout.ts";
import { PROGRAM } from "./program.ts";
import { counted } from "./quantities.ts";
import { settingsInWords } from "./settings-words.ts";
import { storyLines } from "./story-render.ts";

const examples = `
Examples:
  $ ${PROGRAM} replay u1:blind:frames=1:r2E6
      The shortest way to lose a frame, step by step. Exit code 2.
  $ ${PROGRAM} replay u1:rings-first:frames=1:r2E6
      The same turns, and another strategy.
  $ ${PROGRAM} explore --strategy blind --json | jq -r '.[].schedule'

A schedule is u1, the strategy, what differs from the defaults of explore, and
the steps: g the driver, a the application, r and s the device's receive and
transmit units, t to w a write that lands, E the engine; digits say how often.
If the move is not over at its end, the engine goes on alone.
`;

/** `done` gets the exit code. */
export function replayCommand(environment: Environment, done: (exitCode: ExitCode) => void): Command {
  return new Command("replay")
    .summary("tell a schedule that explore found, step by step")
    .description("Carries a schedule out for real, tells each step, and shows the bytes that go wrong.")
    .argument("<SCHEDULE>", "as explore prints it, such as u1:blind:frames=1:r2E6")
    .option("--json", "print the story as JSON, and nothing else, on stdout")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", examples)
    .action(async (schedule: string, words: { json?: boolean }) => {
      const { question, steps } = checkingUsage(() => decodeSchedule(schedule));
      const { replay } = await import("../explore/replay.ts");
      const replayed = replay(question, steps);
      const { stdout } = environment;
      stdout.write(
        words.json === true
          ? `${JSON.stringify(replayedAsData(replayed), undefined, 2)}\n`
          : rendered(replayed, stdout),
      );
      done(replayed.violation === undefined ? ExitCode.expected : ExitCode.unexpected);
    });
}

function rendered(replayed: Replayed, terminal: Terminal): string {
  const page = pageOf(terminal);
  const { question, steps, stepsAsked } = replayed;
  const alone = steps > stepsAsked ? ` The last ${counted(steps - stepsAsked, "step")} the engine does alone.` : "";
  const lines = [
    ...paragraph(
      `${page.colors.bold(question.strategy)} with ${settingsInWords(question)}, ${counted(steps, "step")}.${alone}`,
      page.width,
      "  ",
    ),
    "",
    ...storyLines(replayed, page, "  "),
  ];
  return `\n${lines.join("\n")}\n\n`;
}

/** What `--json` prints. Its keys are stable. */
function replayedAsData(replayed: Replayed): object {
  const { question, schedule, stepsAsked, steps, scenes, outcome, violation, afterwards } = replayed;
  const { verdict, cuts } = outcome;
  const { property, sentence, hazards } = violation ?? {};
  return {
    ...question,
    schedule,
    steps,
    stepsAsked,
    story: scenes,
    afterwards,
    violation: violation === undefined ? null : { property, sentence, hazards },
    cuts,
    frames: verdict.frames,
    corruptions: verdict.corruptions,
  };
}
