// Lists what openapi.json says: a path a line, with what it takes.

const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });

// The schema of a request's body, with what it refers to written out; what is met again stays a name.
function whole(node, schemas, seen = []) {
  if (Array.isArray(node)) return node.map((one) => whole(one, schemas, seen));
  if (!node || typeof node !== "object") return node;
  const name = node.$ref?.split("/").pop();
  if (name && !seen.includes(name)) return whole(schemas[name], schemas, [...seen, name]);
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, whole(value, schemas, seen)]));
}

function operation(path, method, { summary, description, parameters = [], requestBody }, schemas) {
  const details = make("details", "");
  const head = make("summary", "");
  head.append(make("code", `${method.toUpperCase()} ${path}`), ` ${description || summary}`);
  details.append(head);
  for (const { name, schema } of parameters) {
    details.append(make("p", `${name}: ${schema.type ?? schema.anyOf?.map((one) => one.type).join(" or ")}`));
  }
  const [kind, content] = Object.entries(requestBody?.content ?? {})[0] ?? [];
  if (kind) details.append(make("p", kind), make("pre", JSON.stringify(whole(content.schema, schemas), null, 2)));
  return details;
}

const { paths, components } = await (await fetch("/openapi.json")).json();
for (const [path, methods] of Object.entries(paths)) {
  for (const [method, facts] of Object.entries(methods)) {
    document.querySelector("#paths").append(operation(path, method, facts, components?.schemas ?? {}));
  }
}
