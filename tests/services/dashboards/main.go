// Dashboards by the schema of Grafana: a line for each fault, and exit status 1 where there is one.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	status := 0
	for _, path := range os.Args[1:] {
		content, err := os.ReadFile(path)
		found := dashboard.Dashboard{}
		if err == nil {
			err = found.UnmarshalJSONStrict(content)
		}
		if err == nil || err.Error() == "" { // no fault may be an empty list of them
			err = found.Validate()
		}
		if err != nil && err.Error() != "" {
			fmt.Printf("%s: %s\n", path, err)
			status = 1
		}
	}
	os.Exit(status)
}
