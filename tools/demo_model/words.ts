/** The lexicon of the generated stories: word classes small enough to be learnt, wide enough to vary. */

const list = (text: string): string[] => text.trim().split(/\s+/);

/** A verb in the three forms the grammar inflects: bare (plural present), third person singular, past. */
export interface Verb {
  readonly bare: string;
  readonly third: string;
  readonly past: string;
}

const vowel = (c: string | undefined) => c !== undefined && "aeiou".includes(c);

function regularVerb(bare: string): Verb {
  const end = bare.at(-1), before = bare.at(-2);
  if (end === "y" && !vowel(before)) {
    return { bare, third: bare.slice(0, -1) + "ies", past: bare.slice(0, -1) + "ied" };
  }
  const third = /(s|x|z|ch|sh)$/.test(bare) ? bare + "es" : bare + "s";
  return { bare, third, past: end === "e" ? bare + "d" : bare + "ed" };
}

/** `walk` is regular; `go:goes:went` gives the forms. */
function verbs(text: string): Verb[] {
  return list(text).map((entry) => {
    const [bare, third, past] = entry.split(":");
    return past === undefined ? regularVerb(bare) : { bare, third, past };
  });
}

/** A noun with its plural. */
export interface Noun {
  readonly one: string;
  readonly many: string;
}

function nouns(text: string): Noun[] {
  return list(text).map((entry) => {
    const [one, many] = entry.split(":");
    if (many !== undefined) return { one, many };
    if (/(s|x|z|ch|sh)$/.test(one)) return { one, many: one + "es" };
    if (one.endsWith("y") && !vowel(one.at(-2))) return { one, many: one.slice(0, -1) + "ies" };
    return { one, many: one + "s" };
  });
}

export const WOMEN = list("Mira Anna Lena Clara Ruth Ida Nora Eva Hanna Tilda Rosa Marta");
export const MEN = list("Tom Ben Karl Otto Felix Hugo Leo Emil Jonas Peter Simon Oscar");

/** Something found at a place: `trees` (many) or `cave`. */
interface Feature {
  readonly name: string;
  readonly plural: boolean;
}

/** Places with what is found in them: a preposition, features, animals. */
export interface Place {
  readonly name: string;
  readonly at: string;
  readonly features: readonly Feature[];
  readonly animals: readonly Noun[];
}

const place = (name: string, at: string, features: string, animals: string): Place => ({
  name,
  at,
  features: list(features).map((entry) => ({
    name: entry,
    plural: entry.endsWith("s") && !entry.endsWith("ss"),
  })),
  animals: nouns(animals),
});

export const PLACES: readonly Place[] = [
  place("forest", "in", "trees path cave moss", "fox owl deer:deer wolf:wolves"),
  place("harbor", "at", "boats ropes pier nets", "gull cat crab"),
  place("market", "at", "stalls crowd baskets bell", "dog hen goat"),
  place("village", "in", "houses well street gate", "dog cat hen"),
  place("mountain", "on", "rocks snow path cave", "goat eagle wolf:wolves"),
  place("river", "by", "bridge stones reeds boats", "duck frog otter"),
  place("meadow", "in", "flowers grass fence stones", "horse hare sheep:sheep"),
  place("castle", "in", "towers walls gate stairs", "horse owl mouse:mice"),
  place("mill", "at", "wheel roof sacks stairs", "mouse:mice cat duck"),
  place("school", "at", "desks books windows bell", "mouse:mice cat dog"),
  place("garden", "in", "roses fence well path", "hen hare frog"),
  place("island", "on", "rocks beach cave trees", "gull crab seal"),
  place("inn", "at", "tables stairs fire windows", "dog cat horse"),
  place("valley", "in", "fields bridge houses fence", "sheep:sheep horse fox"),
];

/** Roles with the things and the verbs of their trade. */
export interface Role {
  readonly name: string;
  readonly verbs: readonly Verb[];
  readonly things: readonly Noun[];
}

const role = (name: string, verbText: string, things: string): Role => ({
  name,
  verbs: verbs(verbText),
  things: nouns(things),
});

export const ROLES: readonly Role[] = [
  role("baker", "bake sell:sells:sold count", "loaf:loaves cake pie"),
  role("farmer", "plant wash count", "turnip apple cabbage"),
  role("fisher", "mend clean lose:loses:lost", "net hook boat"),
  role("teacher", "read:reads:read open study", "book letter map"),
  role("smith", "hammer clean repair", "sword kettle bell"),
  role("tailor", "sew:sews:sewed fold mend", "coat shirt cap"),
  role("painter", "paint frame sell:sells:sold", "picture door mask"),
  role("sailor", "paint repair clean", "boat sail lantern"),
  role("shepherd", "count wash feed:feeds:fed", "lamb dog goat"),
  role("merchant", "buy:buys:bought sell:sells:sold count", "ring carpet lamp"),
  role("hunter", "clean carry hide:hides:hid", "bow knife:knives trap"),
  role("doctor", "open fold carry", "bag letter bottle"),
];

export const THINGS = nouns(
  "key lamp basket coin map ring drum clock kettle letter candle mirror shovel blanket bottle box hat flute rope chair ladder pillow needle helmet violin compass",
);
export const FOODS = list("bread soup cheese honey rice fish butter cake milk stew pudding porridge");

export const THING_VERBS = verbs(
  "carry find:finds:found hide:hides:hid drop:drops:dropped repair clean sell:sells:sold borrow lose:loses:lost open watch paint",
);
export const FOOD_VERBS = verbs("eat:eats:ate taste share cook buy:buys:bought bring:brings:brought");
export const MOVE_VERBS = verbs("walk run:runs:ran hurry travel wander ride:rides:rode climb return");
export const ANIMAL_VERBS = verbs("sleep:sleeps:slept jump hide:hides:hid wait rest play sit:sits:sat");
export const SAY_VERBS = verbs("say:says:said think:thinks:thought whisper shout know:knows:knew");
export const SPEECH_VERBS = verbs("ask thank follow help greet warn visit");
export const WISHES = verbs("want need love hate like");

export const PERSON_ADJECTIVES = list("old young kind poor clever brave lazy proud quiet honest");
export const FEELINGS = list("tired happy hungry sad afraid angry glad cold lonely proud curious bored");
export const THING_ADJECTIVES = list(
  "small heavy golden broken strange shiny old wooden red blue green precious silver",
);
export const PLACE_ADJECTIVES = list("dark quiet old green distant busy narrow empty little great");
export const ANIMAL_ADJECTIVES = list("small gray hungry wild white black clever sleepy brown spotted");
export const FOOD_ADJECTIVES = list("fresh warm sweet cold good dry salty");
export const ADVERBS = list(
  "slowly quickly quietly carefully gladly alone together again early late calmly bravely",
);
export const NUMBERS = list("two three four five six seven many some several");
export const DWELLINGS = list("house cottage hut tower cabin palace");
/** Openings of a story in the past, and of one in the present. */
export const TIMES_PAST = [
  ...list("morning evening night day winter summer").map((time) => `One ${time}`),
  "Long ago",
  "Last week",
  "Last winter",
  "On a rainy day",
  "On a cold morning",
];
export const TIMES_PRESENT = [
  ...list("morning evening night day winter summer").map((time) => `Every ${time}`),
  "At sunrise",
  "Before noon",
  "On rainy days",
  "On cold mornings",
];
export const HABITS = list("morning evening summer winter");
export const LATER = [
  "Then",
  "After that",
  "Later",
  "Soon",
  "The next day",
  "That night",
  "A little later",
  "At last",
];

/** Turns of the weather, past and present. */
export const WEATHER: readonly (readonly [string, string])[] = [
  ["the rain stopped", "the rain stops"],
  ["the wind grew strong", "the wind grows strong"],
  ["the sun went down", "the sun goes down"],
  ["the snow began to fall", "the snow begins to fall"],
  ["the moon came up", "the moon comes up"],
  ["the storm was over", "the storm is over"],
  ["it became dark", "it becomes dark"],
  ["the bell rang", "the bell rings"],
];
