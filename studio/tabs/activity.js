export const activity = { id: "activity", title: "Activity", heading: "Activity", lede: "", paths: [], missing: () => ({ what: "Not here yet", reason: "This is being built." }), mount() {} };
