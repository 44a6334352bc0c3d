// Random JSON schemas, the same for the same seed.

/** Numbers from 0 up to a limit, out of a seed. */
export function numbers(seed) {
  let state = seed * 2654435761 + 1;
  return (limit) => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    const mixed = Math.imul(state ^ (state >>> 13), 3266489917);
    return ((mixed ^ (mixed >>> 16)) >>> 0) % limit;
  };
}

const NAMES = ["name", "id", "the water", "tags", 'x"y', "größe"];

function object(below, depth) {
  const properties = {};
  const required = [];
  for (let i = 1 + below(4); i > 0; i--) {
    const name = NAMES[below(NAMES.length)];
    if (name in properties) continue;
    properties[name] = any(below, depth + 1);
    if (below(3) > 0) required.push(name);
  }
  return { type: "object", properties, required, additionalProperties: false };
}

function any(below, depth) {
  const least = below(3);
  const kinds = [
    () => ({ type: "boolean" }), () => ({ type: ["null", "boolean"] }),
    () => ({ type: "integer", minimum: -20 + below(20), maximum: 5 + below(500) }),
    () => ({ type: "number", exclusiveMinimum: 0, maximum: 1000 }),
    () => ({ type: "string", minLength: least, maxLength: 3 + below(6) }),
    () => ({ enum: ["water", 'the "light"', 7, null, true, { a: [1] }] }),
    () => ({ const: ["fixed", 1.5, { deep: "größe" }] }),
    () => ({ type: "string", pattern: "^[a-c]{2,4}-(x|yy)$" }),
    () => ({ type: "integer", multipleOf: 5, minimum: 0, maximum: 100 }),
    () => ({ type: "string", format: ["date", "ipv4", "uuid"][below(3)] }),
    () => ({ type: "array", items: any(below, depth + 1), minItems: least, maxItems: least + 2 }),
    () => ({ type: "array", prefixItems: [any(below, depth + 1), any(below, depth + 1)], items: false, minItems: 2 }),
    () => ({ anyOf: [any(below, depth + 1), any(below, depth + 1)] }),
    () => object(below, depth),
  ];
  return kinds[below(depth < 3 ? kinds.length : 10)]();
}

/** A schema whose outputs have a few hundred tokens of a tiny model. */
export function randomSchema(seed) {
  const below = numbers(seed);
  const schema = object(below, 0);
  if (below(4) > 0) return schema;
  const node = {
    type: "object", required: ["v"], additionalProperties: false,
    properties: { v: { type: "integer", minimum: 0, maximum: 9 }, next: { $ref: "#/$defs/node" } },
  };
  return { ...schema, properties: { ...schema.properties, next: { $ref: "#/$defs/node" } }, $defs: { node } };
}
