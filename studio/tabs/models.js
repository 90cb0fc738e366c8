export const models = { id: "models", title: "Models", heading: "Models", lede: "", paths: [], missing: () => ({ what: "Not here yet", reason: "This is being built." }), mount() {} };
