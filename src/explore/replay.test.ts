import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import { strategies } from "../strategy/strategies.ts";
import { assumptionSwitches, boundSwitches } from "./assumptions.ts";
import { lifeAfter, replay, type Replayed } from "./replay.ts";
import { decodeSchedule, experimentOf } from "./schedule.ts";
import { Trial } from "./trial.ts";

const SEED = 20_151_029;

function replayed(schedule: string): Replayed {
  const { question, steps } = decodeSchedule(schedule);
  return replay(question, steps);
}

const told = (schedule: string): string[] =>
  replayed(schedule).scenes.map(({ first, last, who, sentence }) =>
    [first === last ? `${first}` : `${first}-${last}`, who, sentence].join(" "),
  );

test("the shortest way to break blind is told in eight steps, with the frame that is lost", () => {
  assert.deepEqual(told("u1:blind:frames=1:r2E6"), [
    "1 device writes 60 bytes into the buffer of descriptor 4, at 0x4c0",
    "2 device writes back descriptor 4: DD EOP, length 60",
    "3 engine fetches the CPU's dirty log: no page",
    "4 engine begins another round",
    "5 engine fetches the CPU's dirty log: no page; the switchover begins",
    "6 engine pauses the vCPUs",
    "7 engine fetches the CPU's dirty log: no page",
    "8 engine saves the VF: receive head 5, tail 3",
  ]);
  const { violation, outcome } = replayed("u1:blind:frames=1:r2E6");
  assert.equal(violation?.property, "legal-cut");
  assert.deepEqual(violation.hazards, ["head-ahead", "read-ahead"]);
  assert.notEqual(outcome.verdict.corruptions[0]?.expectedHex, outcome.verdict.corruptions[0]?.actualHex);
});

test("driver, ring copy and cut are told in the words of the field, and copies of a kind as one", () => {
  const story = told("u1:rings-first:frames=2:r6g8");
  for (const sentence of [
    "10 driver looks at descriptor 4: its length is 60, it is done",
    "12 driver takes 60 bytes from the buffer of descriptor 4; a frame of 60 bytes goes to the socket",
    "24 engine saves the VF: receive head 6, tail 3",
    "25-40 engine reads descriptors 2 down to 0 and 7 down to 3 of queue 0, upper half first: done 4 and 5, the others not",
    "41 engine cuts the ring of queue 0 at descriptor 6 (the head was 6 at the pause); sends pages 2 and 3 with the rings like that",
  ]) {
    assert.ok(story.includes(sentence), `${sentence}\n\nin\n\n${story.join("\n")}`);
  }
});

test("a descriptor that is done after the pause comes along, and the story says so", () => {
  const story = told("u1:rings-first:frames=1:E6r2");
  assert.ok(
    story.some((scene) => scene.includes("at descriptor 5 (the head was 4 at the pause, 1 done since comes along)")),
    story.join("\n"),
  );
});

test("writes that are on their way are sent off by the device and delivered by the bus", () => {
  const story = told("u1:blind:inFlight=2,frames=1:r2t2");
  assert.deepEqual(story.slice(0, 4), [
    "1 device sends off 60 bytes into the buffer of descriptor 4, at 0x4c0",
    "2 device sends off the write-back of descriptor 4: DD EOP, length 60",
    "3 bus delivers 60 bytes into the buffer of descriptor 4, at 0x4c0",
    "4 bus delivers the write-back of descriptor 4: DD EOP, length 60",
  ]);
});

test("every step of a schedule is in exactly one place of its story, or shares it with what the engine copied there", () => {
  for (const schedule of [
    "u1:rings-first:frames=3:r9g9",
    "u1:device-log:frames=2:rE3r4g3",
    "u1:reinit:application=8:a8",
  ]) {
    const { scenes, steps } = replayed(schedule);
    let next = 1;
    for (const { first, last } of scenes) {
      assert.ok(first === next || first === next - 1, `step ${first} comes after ${next - 1} in ${schedule}`);
      next = last + 1;
    }
    assert.equal(next, steps + 1, schedule);
  }
});

test("a schedule that ends early is finished by the engine alone, and the whole of it breaks the same", () => {
  const early = replayed("u1:blind:frames=1:r2");
  assert.equal(early.schedule, "u1:blind:frames=1:r2E6");
  assert.deepEqual([early.stepsAsked, early.steps], [2, 8]);
  const whole = replayed(early.schedule);
  assert.deepEqual(whole.scenes, early.scenes);
  assert.deepEqual(whole.violation, early.violation);
});

test("the same turns that break blind do nothing to rings-first", () => {
  assert.equal(replayed("u1:rings-first:frames=1:r2E6").violation, undefined);
});

test("a step whose actor has nothing to do is refused, with what can be done", () => {
  assert.throws(() => replayed("u1:blind:frames=1:rg"), {
    code: "schedule-impossible",
    message: /Step 2 .*waits for an interrupt/,
    advice: /u1:blind:frames=1:r,/,
    facts: { step: 2, steps: 2 },
  });
  assert.throws(() => replayed("u1:blind:frames=1:E60"), { code: "schedule-impossible", message: /the move is over/ });
});

test("a schedule of more steps than any search finds is refused before room is made for it", () => {
  for (const many of ["r9999".repeat(200), "rE".repeat(10_000)]) {
    assert.throws(() => decodeSchedule(`u1:blind::${many}`), { code: "schedule-invalid" });
  }
});

test("of a guest that does not live on, the last turns on the destination are told", () => {
  const { schedule } = replayed("u1:quiesce:frames=1:r");
  const { question, steps } = decodeSchedule(schedule);
  const trial = new Trial(experimentOf(question));
  assert.ok(trial.run(steps));
  const outcome = trial.outcome();
  // A VF that has forgotten which descriptors it was given.
  const registers = { ...outcome.resumedWith.registers, VFRDT: outcome.resumedWith.registers["VFRDH"] ?? [] };
  const broken = { ...outcome, resumedWith: { ...outcome.resumedWith, registers } };
  const { violation, afterwards } = lifeAfter(experimentOf(question), broken, steps);
  assert.equal(violation?.sentence, "on the destination, frame 1 after the move never came to the guest");
  const turnsTold = afterwards.map(({ first, who, sentence }) => `${first} ${who} ${sentence}`);
  assert.ok(
    turnsTold.includes("8 application reads a frame from its socket, and every byte of it is right"),
    turnsTold.join("\n"),
  );
  assert.deepEqual(turnsTold.slice(-2), [
    "20 driver looks at descriptor 5: its length is 0, it is not done",
    "21 driver ends its poll and lets interrupt 0 through again",
  ]);
});

/** Done, or refused with a typed error. */
function survives(text: string): void {
  try {
    replayed(text);
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
  }
}

test("no string whatever crashes a replay or keeps it from its end", () => {
  fc.assert(fc.property(fc.string({ maxLength: 60 }), survives), { seed: SEED });
});

const settings = [
  ...Object.entries(assumptionSwitches).flatMap(([name, { values }]) => values.map((value) => `${name}=${value}`)),
  ...Object.entries(boundSwitches).map(([name, { max }]) => `${name}=${Math.min(max, 5)}`),
  "frames=0",
  "toString=1",
  "frames=-1",
];
/** The last is none. */
const letters = ["g", "a", "r", "s", "t", "u", "v", "w", "E", "z"];
const turns = fc.array(fc.tuple(fc.constantFrom(...letters), fc.constantFrom("", "2", "7", "0", "600")));

test("no schedule that reads like one crashes a replay or keeps it from its end", () => {
  const schedules = fc
    .record({
      strategy: fc.constantFrom(...strategies.map(({ name }) => name)),
      settings: fc.subarray(settings, { maxLength: 5 }),
      turns,
    })
    .map(({ strategy, settings: chosen, turns: steps }) =>
      ["u1", strategy, chosen.join(","), steps.flat().join("")].join(":"),
    );
  fc.assert(fc.property(schedules, survives), { seed: SEED, numRuns: 150 });
});
