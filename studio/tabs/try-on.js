export const tryOn = { id: "try-on", title: "Try-on", heading: "Try-on", lede: "", paths: [], missing: () => ({ what: "Not here yet", reason: "This is being built." }), mount() {} };
