export const generate = { id: "generate", title: "Generate", heading: "Generate", lede: "", paths: [], missing: () => ({ what: "Not here yet", reason: "This is being built." }), mount() {} };
