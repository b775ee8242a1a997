// Shows openapi.json and sends requests. Everything that comes from a model stands in text nodes, so that no label, no
// column and no answer can be markup; the Content-Security-Policy of the page allows no other script and no other host.
"use strict";

const byId = (id) => document.getElementById(id);

function make(tag, text, cls) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (cls) element.className = cls;
  return element;
}

function headers(more) {
  const key = byId("key").value.trim();
  return { ...(key ? { Authorization: "Bearer " + key } : {}), ...more };
}

async function load() {
  let answer;
  try {
    answer = await fetch("openapi.json", { headers: headers({}) });
  } catch {
    return say("The service cannot be reached.", true);
  }
  if (answer.status === 401 || answer.status === 429) {
    byId("with-key").hidden = false;
    const body = await answer.json().catch(() => ({}));
    return say(body.error ? body.error.message : "A key is asked for.", true);
  }
  if (!answer.ok) return say("openapi.json: " + answer.status, true);
  show(await answer.json());
}

function say(text, bad) {
  byId("said").textContent = text;
  byId("said").className = bad ? "bad" : "dim";
}

function show(api) {
  say(api.info.description + " Version " + api.info.version + ".");
  byId("with-key").hidden = !api.security;
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    const group = path.startsWith("/v1/models/") && path.endsWith("/predict") ? "Models" : "The service";
    if (!groups.has(group)) groups.set(group, []);
    for (const [method, told] of Object.entries(methods)) groups.get(group).push([method, path, told]);
  }
  byId("addresses").replaceChildren();
  for (const [group, entries] of groups) {
    byId("addresses").append(make("h2", group));
    entries.forEach((entry, i) => byId("addresses").append(operation(api, ...entry, group === "Models" && i === 0)));
  }
}

function operation(api, method, path, told, open) {
  const box = make("details");
  box.open = open;
  const head = make("summary");
  head.append(make("b", method.toUpperCase()), make("code", path), make("span", "  " + (told.summary || ""), "dim"));
  const inside = make("div", undefined, "inside");
  if (told.description) inside.append(make("p", told.description));
  const fields = [];
  if (told.parameters) inside.append(parameters(told.parameters, fields));
  const json = told.requestBody && told.requestBody.content["application/json"];
  let text = null;
  if (json) {
    const schema = resolved(api, json.schema, 0);
    text = make("textarea");
    text.spellcheck = false;
    text.value = JSON.stringify(json.example !== undefined ? json.example : sample(schema), null, 1);
    text.setAttribute("aria-label", "body");
    inside.append(make("p", "Body (" + Object.keys(told.requestBody.content).join(", ") + ")", "dim"), text);
    inside.append(folded("What it holds", schema));
  }
  const good = Object.entries(told.responses).find(([status]) => status.startsWith("2"));
  const shape = good && good[1].content && good[1].content["application/json"];
  if (shape) inside.append(folded("What is answered", resolved(api, shape.schema, 0)));
  const send = make("button", "Send");
  const out = make("pre");
  out.hidden = true;
  if (!told.requestBody || json) inside.append(send);
  inside.append(out);
  send.addEventListener("click", () => ask(method, path, fields, text, out));
  box.append(head, inside);
  return box;
}

function parameters(list, fields) {
  const table = make("table");
  for (const one of list) {
    const row = make("tr");
    const kinds = one.schema.anyOf ? one.schema.anyOf.map((s) => s.type).join(" or ") : one.schema.type || "";
    const field = one.schema.enum ? make("select") : make("input");
    if (one.schema.enum) {
      if (!one.required) field.append(make("option", ""));
      for (const value of one.schema.enum) field.append(make("option", value));
    } else field.placeholder = String(one.schema.default ?? kinds);
    field.setAttribute("aria-label", one.name);
    fields.push([one, field]);
    row.append(make("th", one.name), make("td"), make("td", one.description || ""));
    row.children[1].append(field);
    table.append(row);
  }
  return table;
}

function folded(title, schema) {
  const box = make("details");
  box.append(make("summary", title), make("pre", JSON.stringify(schema, null, 1)));
  return box;
}

function resolved(api, schema, depth) {
  if (depth > 12 || schema === null || typeof schema !== "object") return schema;
  if (Array.isArray(schema)) return schema.map((one) => resolved(api, one, depth + 1));
  if (schema.$ref) {
    const place = schema.$ref.replace("#/components/schemas/", "");
    return resolved(api, api.components.schemas[place], depth + 1);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, one]) => [key, resolved(api, one, depth + 1)]));
}

function sample(schema) {
  if (!schema) return {};
  if (schema.examples) return schema.examples[0];
  if (schema.type === "object" || schema.properties) {
    const names = schema.required || Object.keys(schema.properties || {});
    return Object.fromEntries(names.map((name) => [name, sample((schema.properties || {})[name])]));
  }
  if (schema.type === "array") return [sample(schema.items)];
  return { string: "", number: 0, integer: 0, boolean: false }[schema.type] ?? null;
}

async function ask(method, path, fields, text, out) {
  const query = new URLSearchParams();
  for (const [one, field] of fields) {
    if (one.in === "path") path = path.replace("{" + one.name + "}", encodeURIComponent(field.value));
    else if (field.value !== "") query.set(one.name, field.value);
  }
  const address = path.slice(1) + (query.size ? "?" + query : "");
  const options = { method: method.toUpperCase(), headers: headers(text ? { "Content-Type": "application/json" } : {}) };
  if (text) options.body = text.value;
  out.hidden = false;
  out.textContent = "…";
  try {
    const answer = await fetch(address, options);
    const body = await answer.text();
    let shown = body;
    try { shown = JSON.stringify(JSON.parse(body), null, 1); } catch { /* not JSON: as it is */ }
    out.textContent = answer.status + " " + answer.statusText + "\n" + shown.slice(0, 200000);
    out.className = answer.ok ? "" : "bad";
  } catch (error) {
    out.textContent = "The service cannot be reached.";
    out.className = "bad";
  }
}

byId("key").addEventListener("change", load);
load();
