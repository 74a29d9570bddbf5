import { type Draw, hashText } from "./draw.ts";
import * as words from "./words.ts";
import type { Noun, Place, Role, Verb } from "./words.ts";

/**
 * Which half of all possible sentences to draw from. The split is by a hash of the sentence, so a held-out
 * sentence is never in the training text, however much of it is drawn.
 */
export type Split = "train" | "held-out";

const HELD_OUT_ONE_IN = 16;

/** Whether a sentence belongs to the held-out part (one in sixteen). */
export function isHeldOut(sentence: string): boolean {
  return hashText(sentence) % HELD_OUT_ONE_IN === 0;
}

interface Story {
  readonly past: boolean;
  readonly hero: string;
  readonly pronoun: string;
  readonly plural: boolean;
  readonly trade: Role | undefined;
  readonly friend: string;
  readonly place: Place;
  readonly thing: string;
  readonly food: string;
}

type Form = (d: Draw, s: Story) => string;

const article = (noun: string) => (/^[aeiou]/.test(noun) ? "an " : "a ") + noun;
const inflect = (v: Verb, s: Story, plural: boolean) => s.past ? v.past : plural ? v.bare : v.third;
const be = (s: Story, plural: boolean) => s.past ? (plural ? "were" : "was") : plural ? "are" : "is";

/** A verb of the hero. */
const does = (d: Draw, s: Story, verbs: readonly Verb[]) => inflect(d.pick(verbs), s, s.plural);
const where = (s: Story) => `${s.place.at} the ${s.place.name}`;
const feature = (d: Draw, s: Story) =>
  `${d.pick(["near", "behind", "under"])} the ${d.pick(s.place.features).name}`;

/** The hero as the subject of a later sentence: mostly the pronoun. */
const again = (d: Draw, s: Story) => d.chance(0.7) ? s.pronoun : s.hero;

function newThing(d: Draw): string {
  return article(`${d.pick(words.THING_ADJECTIVES)} ${d.pick(words.THINGS).one}`);
}

function animals(d: Draw, s: Story): string {
  const kind = d.pick(s.place.animals);
  const adjective = d.pick(words.ANIMAL_ADJECTIVES);
  const plural = d.chance(0.5);
  const verb = inflect(d.pick(words.ANIMAL_VERBS), s, plural);
  const subject = plural
    ? `${d.pick(words.NUMBERS)} ${adjective} ${kind.many}`
    : article(`${adjective} ${kind.one}`);
  return `${subject} ${verb} ${feature(d, s)}`;
}

/** A transitive phrase of the hero: the trade's own things when there is a trade, else any thing. */
function deed(d: Draw, s: Story): string {
  if (s.trade !== undefined && d.chance(0.6)) {
    const noun: Noun = d.pick(s.trade.things);
    return `${does(d, s, s.trade.verbs)} ${d.pick(words.NUMBERS)} ${noun.many}`;
  }
  return `${does(d, s, words.THING_VERBS)} ${newThing(d)}`;
}

function reason(d: Draw, s: Story): string {
  const { name, plural } = d.pick(s.place.features);
  const opinion = `${again(d, s)} ${does(d, s, words.WISHES)} the ${s.place.name}`;
  return `${opinion}, because the ${name} there ${be(s, plural)} ${d.pick(words.PLACE_ADJECTIVES)}`;
}

const time = (d: Draw, s: Story) => d.pick(s.past ? words.TIMES_PAST : words.TIMES_PRESENT);

const OPENINGS: readonly Form[] = [
  (d, s) =>
    `${time(d, s)}, ${s.hero} ${does(d, s, words.MOVE_VERBS)} to the ${
      d.pick(words.PLACE_ADJECTIVES)
    } ${s.place.name} with the ${s.thing}`,
  (d, s) =>
    `${s.hero} ${s.past ? "lived" : s.plural ? "live" : "lives"} in ${
      article(`${d.pick(words.PLACE_ADJECTIVES)} ${d.pick(words.DWELLINGS)}`)
    } ${d.pick(["near", "behind"])} the ${s.place.name}`,
  (d, s) =>
    `${time(d, s)}, ${s.hero} and ${s.friend} ${
      inflect(d.pick(words.MOVE_VERBS), s, true)
    } together to the ${s.place.name}`,
  (d, s) => `${time(d, s)}, ${s.hero} ${deed(d, s)} ${where(s)}`,
  (d, s) =>
    `every ${d.pick(words.HABITS)}, ${s.hero} ${does(d, s, words.FOOD_VERBS)} ${
      d.pick(words.FOOD_ADJECTIVES)
    } ${s.food} ${where(s)}`,
];

const MIDDLES: readonly Form[] = [
  (d, s) => `${again(d, s)} ${deed(d, s)} ${feature(d, s)}`,
  (d, s) => `${again(d, s)} ${does(d, s, words.THING_VERBS)} the ${s.thing} and ${deed(d, s)}`,
  (d, s) => `${where(s)}, ${animals(d, s)}`,
  (d, s) => `${animals(d, s)}, and ${s.pronoun} ${be(s, s.plural)} ${d.pick(words.FEELINGS)}`,
  (d, s) =>
    `when ${d.pick(words.WEATHER)[s.past ? 0 : 1]}, ${s.pronoun} ${does(d, s, words.MOVE_VERBS)} ${
      d.pick(words.ADVERBS)
    } to the ${s.place.name}`,
  (d, s) =>
    `because ${s.pronoun} ${be(s, s.plural)} ${d.pick(words.FEELINGS)}, ${s.pronoun} ${
      does(d, s, words.FOOD_VERBS)
    } the ${d.pick(words.FOOD_ADJECTIVES)} ${s.food}`,
  (d, s) =>
    `${s.friend} ${inflect(d.pick(words.SAY_VERBS), s, false)} that the ${
      d.chance(0.5) ? `${s.thing} ${be(s, false)} ${d.pick(words.THING_ADJECTIVES)}` : placeIs(d, s)
    }`,
  (d, s) =>
    `${s.friend} ${inflect(d.pick(words.SPEECH_VERBS), s, false)} ${s.plural ? "them" : objectOf(s)} and ${
      inflect(d.pick(words.THING_VERBS), s, false)
    } ${newThing(d)}`,
  (d, s) =>
    `the ${s.thing} ${be(s, false)} ${d.pick(words.THING_ADJECTIVES)}, but ${s.pronoun} ${negated(s)} ${
      d.pick(words.WISHES).bare
    } it`,
  (d, s) =>
    `${d.pick(words.LATER)} ${s.pronoun} ${does(d, s, words.FOOD_VERBS)} ${d.pick(words.FOOD_ADJECTIVES)} ${
      d.pick(words.FOODS)
    } with ${s.friend} ${where(s)}`,
  reason,
];

const CLOSINGS: readonly Form[] = [
  (d, s) =>
    `${d.pick(words.LATER)} ${s.hero} ${does(d, s, words.MOVE_VERBS)} home ${
      d.pick(words.ADVERBS)
    } with the ${s.thing}`,
  (d, s) =>
    `in the end, ${s.hero} ${
      s.past ? "gave" : s.plural ? "give" : "gives"
    } the ${s.thing} to ${s.friend} and ${be(s, s.plural)} ${d.pick(words.FEELINGS)}`,
  (d, s) =>
    `${d.pick(words.LATER)} ${s.pronoun} ${s.past ? "slept" : s.plural ? "sleep" : "sleeps"} ${
      d.pick(words.ADVERBS)
    } in the ${d.pick(words.PLACE_ADJECTIVES)} ${d.pick(words.DWELLINGS)}`,
  (d, s) =>
    `${s.pronoun} never ${does(d, s, words.THING_VERBS)} the ${s.thing} again, and ${s.friend} ${
      be(s, false)
    } ${d.pick(words.FEELINGS)}`,
];

const placeIs = (d: Draw, s: Story) => `${s.place.name} ${be(s, false)} ${d.pick(words.PLACE_ADJECTIVES)}`;
const objectOf = (s: Story) => s.pronoun === "she" ? "her" : "him";
const negated = (s: Story) => s.past ? "did not" : s.plural ? "do not" : "does not";

function newStory(d: Draw): Story {
  const woman = d.chance(0.5);
  const [names, others] = woman ? [words.WOMEN, words.MEN] : [words.MEN, words.WOMEN];
  const kind = d.uniform();
  const trade = kind < 0.45 ? d.pick(words.ROLES) : undefined;
  const plural = kind > 0.85;
  const name = d.pick(names);
  const hero = trade !== undefined
    ? `the ${d.pick(words.PERSON_ADJECTIVES)} ${trade.name}`
    : plural
    ? `${name} and ${d.pick(others)}`
    : name;
  return {
    past: d.chance(0.75),
    hero,
    pronoun: plural ? "they" : woman ? "she" : "he",
    plural,
    trade,
    friend: d.pick(others.filter((other) => !hero.includes(other))),
    place: d.pick(words.PLACES),
    thing: d.pick(words.THINGS).one,
    food: d.pick(words.FOODS),
  };
}

/** Draws from one of the forms until the sentence lies in the split. */
function sentence(d: Draw, s: Story, forms: readonly Form[], split: Split): string {
  for (;;) {
    const text = d.pick(forms)(d, s);
    const finished = text[0].toUpperCase() + text.slice(1) + ".";
    if (isHeldOut(finished) === (split === "held-out")) return finished;
  }
}

/**
 * A story of three to eight sentences about one hero, one friend, one place and one thing.
 *
 * @returns The sentences in order; joined by single spaces they are the story.
 */
export function story(d: Draw, split: Split): string[] {
  const s = newStory(d);
  const middles = 1 + d.integer(6);
  const out = [sentence(d, s, OPENINGS, split)];
  for (let i = 0; i < middles; i++) out.push(sentence(d, s, MIDDLES, split));
  out.push(sentence(d, s, CLOSINGS, split));
  return out;
}
